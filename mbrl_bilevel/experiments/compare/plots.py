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
    figures = {f"curves_{task}": learning_curves(config, rows, [task]) for task in table.tasks}
    if len(table.tasks) > 1:
        figures["curves"] = learning_curves(config, rows, table.tasks)
    return figures | {"aggregates": aggregates(config, table)}


def learning_curves(config: CompareConfig, rows: Sequence[Row], tasks: Sequence[str]) -> Figure:
    """Returns of training episodes against environment steps: IQM over seeds, 95% interval.

    To the right of the curves, the same of the final evaluations: the last episode of training may
    not have ended.
    """
    num_columns = min(len(tasks), 3)
    num_rows = -(-len(tasks) // num_columns)
    width, height = (WIDTH_INCHES, 4.5) if num_columns == 1 else (4.2 * num_columns, 3.2 * num_rows)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
        for axes, task in zip(panels, tasks, strict=False):
            _draw_task(axes, config, rows, task)
        for unused in panels[len(tasks) :]:
            unused.remove()
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


def _draw_task(axes: Axes, config: CompareConfig, rows: Sequence[Row], task: str) -> None:
    own = [row for row in rows if row["task"] == task and row["status"] == "completed"]
    axes.set(xlabel="environment steps, then evaluation", ylabel="return", title=task)
    for number, method in enumerate(dict.fromkeys(method_of(row) for row in own)):
        runs = [row for row in own if method_of(row) == method]
        colour = COLOURS[number % len(COLOURS)]
        if with_points := [row for row in runs if _points(row)]:
            _draw_curve(axes, with_points, method, colour, config.resamples)
        _draw_evaluation(axes, runs, number, colour, config.resamples)
    if axes.lines:
        axes.legend()


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


def _draw_evaluation(
    axes: Axes, runs: Sequence[Row], number: int, colour: str, resamples: int
) -> None:
    returns = [row["eval_return_mean"] for row in runs if row.get("eval_return_mean") is not None]
    if not returns:
        return
    found = estimate(interquartile_mean, [np.asarray(returns)], resamples)
    last = max(row["env_steps"] for row in runs)
    place = last * (1.04 + 0.025 * number)
    axes.plot([place, place], [found.low, found.high], color=colour, linewidth=3, alpha=0.4)
    axes.plot(place, found.value, "o", color=colour, markersize=4)


def _points(row: Row) -> list[list[float]]:
    """Return `[step, return]` of the training episodes, or of evaluations if none has ended."""
    points: list[list[float]] = row["episodes"] or row["evaluations"]
    return points


def _at(curve: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the return of the newest episode that had ended by each step."""
    index = np.searchsorted(curve[:, 0], steps, side="right") - 1
    return np.asarray(curve[np.maximum(index, 0), 1])
