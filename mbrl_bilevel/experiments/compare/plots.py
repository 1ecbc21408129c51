"""Pictures of a comparison: learning curves, and all methods side by side."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_bilevel.config.compare import CompareConfig
from mbrl_bilevel.evaluation.plots import STYLE, WIDTH_INCHES
from mbrl_bilevel.experiments.compare.statistics import AGGREGATES, estimate, interquartile_mean
from mbrl_bilevel.experiments.compare.table import Row, Table, make_table, method_of

# The colour-blind safe palette of Okabe and Ito, without its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
NUM_POINTS = 60
"""Of a learning curve."""


def make_figures(config: CompareConfig, rows: Sequence[Row]) -> dict[str, Figure]:
    """Return figures by the names of their files; none if no cell has finished."""
    table = make_table(config, rows)
    if not table.tasks:
        return {}
    figures = {f"curves_{task}": learning_curves(config, rows, task) for task in table.tasks}
    return figures | {"aggregates": aggregates(config, table)}


def learning_curves(config: CompareConfig, rows: Sequence[Row], task: str) -> Figure:
    """Returns of training episodes against environment steps: IQM over seeds, 95% interval."""
    own = [row for row in rows if row["task"] == task and row["status"] == "completed"]
    methods = list(dict.fromkeys(method_of(row) for row in own))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="environment steps", ylabel="return of an episode", title=task)
        for number, method in enumerate(methods):
            runs = [row for row in own if method_of(row) == method and _points(row)]
            if runs:
                _draw_curve(axes, runs, method, COLOURS[number % len(COLOURS)], config.resamples)
        if axes.lines:
            axes.legend()
    return figure


def aggregates(config: CompareConfig, table: Table) -> Figure:
    """Every aggregate of every method that has all tasks, with intervals."""
    methods = [method for method in table.methods if table.scores(method) is not None]
    with matplotlib.rc_context(STYLE):
        size = (2.6 * len(AGGREGATES) + 1.5, 1.2 + 0.35 * len(methods))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(AGGREGATES), sharey=True, squeeze=False)[0]
        for axes, (name, statistic) in zip(panels, AGGREGATES.items(), strict=True):
            axes.set(title=name)
            for position, method in enumerate(methods):
                scores = table.scores(method)
                assert scores is not None
                found = estimate(statistic, scores, config.resamples)
                colour = COLOURS[position % len(COLOURS)]
                axes.plot([found.low, found.high], [position] * 2, color=colour, linewidth=6,
                          alpha=0.4, solid_capstyle="butt")  # fmt: skip
                axes.plot(found.value, position, "o", color=colour)
        panels[0].set_yticks(range(len(methods)), methods)
        panels[0].invert_yaxis()
    return figure


def _draw_curve(axes: Axes, runs: Sequence[Row], label: str, colour: str, resamples: int) -> None:
    curves = [np.asarray(_points(row), dtype=np.float64) for row in runs]
    first = max(curve[0, 0] for curve in curves)
    last = min(curve[-1, 0] for curve in curves)
    steps = np.unique(np.linspace(first, max(first, last), NUM_POINTS))
    values = np.stack([_at(curve, steps) for curve in curves])
    found = [estimate(interquartile_mean, [values[:, i]], resamples) for i in range(len(steps))]
    axes.plot(steps, [each.value for each in found], color=colour, label=label)
    low, high = [each.low for each in found], [each.high for each in found]
    axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def _points(row: Row) -> list[list[float]]:
    """Return `[step, return]` of the training episodes, or of evaluations if none has ended."""
    points: list[list[float]] = row["episodes"] or row["evaluations"]
    return points


def _at(curve: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the return of the newest episode that had ended by each step."""
    index = np.searchsorted(curve[:, 0], steps, side="right") - 1
    return np.asarray(curve[np.maximum(index, 0), 1])
