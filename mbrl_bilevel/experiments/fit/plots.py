"""The pictures of a fit: errors, calibration, open loop and training, by objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbrl_bilevel.evaluation.plots import BLUE, DARK_GREY, GREY, ORANGE, STYLE, WIDTH_INCHES
from mbrl_bilevel.experiments.fit.fans import Fan
from mbrl_bilevel.experiments.fit.fans_plot import draw_fans
from mbrl_bilevel.experiments.fit.report import Row, objectives_of, over_seeds

# From the palette of Okabe and Ito; more objectives than colours begin again.
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass
class Curve:
    """Held-out quality of one model while it was trained.

    Attributes:
        objective: Its label.
        num_updates: At which it was evaluated.
        rmse, nll: At each.
    """

    objective: str
    num_updates: list[int] = field(default_factory=list)
    rmse: list[float] = field(default_factory=list)
    nll: list[float] = field(default_factory=list)

    def add(self, num_updates: int, metrics: dict[str, float]) -> None:
        """Take over what was logged at an evaluation."""
        self.num_updates.append(num_updates)
        self.rmse.append(metrics["model/val_rmse"])
        self.nll.append(metrics["model/val_nll"])


def draw_figures(
    rows: Sequence[Row], curves: Sequence[Curve], fans: Mapping[str, Fan]
) -> dict[str, Figure]:
    """Return figures by the name of their file.

    Args:
        rows: As in results.json, at least one.
        curves: Of the same models.
        fans: By objective, of the first seed; without any there is no picture of them.
    """
    with matplotlib.rc_context(STYLE):
        figures = {
            "error_by_dimension": _error_by_dimension(rows),
            "calibration": _calibration(rows),
            "open_loop": _open_loop(rows),
            "training": _training(curves),
        }
        if fans:
            colours = dict(_coloured(objectives_of(rows)))
            figures["open_loop_fans"] = draw_fans(fans, colours, rows[0]["seed"])
    return figures


def _error_by_dimension(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
    axes = figure.add_subplot()
    objectives = objectives_of(rows)
    width = 0.8 / len(objectives)
    dims = np.arange(len(rows[0]["rmse_per_dim"]))
    for i, (objective, colour) in enumerate(_coloured(objectives)):
        values = _of_seeds(rows, objective, "rmse_per_dim")
        low, high = _range(values)
        mean = values.mean(axis=0)
        positions = dims + (i - (len(objectives) - 1) / 2) * width
        axes.bar(positions, mean, width, color=colour, label=objective)
        axes.vlines(positions, low, high, color=DARK_GREY, linewidth=1.0)
    axes.set(xlabel="dimension of the observation", ylabel="RMSE, normalised", xticks=dims)
    axes.set_title("test error; lines: lowest to highest seed")
    axes.legend()
    return figure


def _calibration(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(6.0, 6.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="black", linewidth=1.0, linestyle=":", label="ideal")
    for objective, colour in _coloured(objectives_of(rows)):
        own = [row["calibration"] for row in rows if row["objective"] == objective]
        observed = np.array([calibration["observed"] for calibration in own])
        expected = own[0]["expected"]
        axes.fill_between(expected, *_range(observed), color=colour, alpha=0.2, linewidth=0)
        axes.plot(expected, observed.mean(axis=0), color=colour, marker="o", label=objective)
    axes.set(xlabel="expected coverage", ylabel="observed coverage", xlim=(0, 1), ylim=(0, 1))
    axes.set(aspect="equal")
    axes.text(0.03, 0.97, "underconfident", color=DARK_GREY, va="top")
    axes.text(0.97, 0.25, "overconfident", color=DARK_GREY, ha="right")
    axes.legend(loc="lower right")
    return figure


def _open_loop(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
    axes = figure.add_subplot()
    objectives = objectives_of(rows)
    ks = [k for k in rows[0]["open_loop_rmse"] if all(k in row["open_loop_rmse"] for row in rows)]
    steps = sorted(int(k) for k in ks)
    for objective, colour in _coloured(objectives):
        _with_intervals(axes, rows, objective, steps, "open_loop_rmse", colour)
    persistence = [over_seeds(rows, objectives[0], "open_loop_persistence", str(k)) for k in steps]
    means = [mean for mean, _ in persistence]
    axes.plot(steps, means, color=GREY, linestyle="--", marker=".", label="no change")
    axes.set(xlabel="steps ahead", ylabel="RMSE, normalised", xticks=steps, yscale="log")
    axes.set_title("open loop; bars: 95% interval over seeds")
    axes.legend()
    return figure


def _with_intervals(
    axes: Axes, rows: Sequence[Row], objective: str, steps: Sequence[int], key: str, colour: str
) -> None:
    statistics = np.array([over_seeds(rows, objective, key, str(k)) for k in steps])
    mean = np.where(np.isfinite(statistics[:, 0]), statistics[:, 0], np.nan)
    margin = np.nan_to_num(statistics[:, 1])  # of one seed there is none to draw
    axes.errorbar(steps, mean, margin, color=colour, marker="o", capsize=3, label=objective)


def _training(curves: Sequence[Curve]) -> Figure:
    figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = list(dict.fromkeys(curve.objective for curve in curves))
    colours = dict(_coloured(labels))
    for axes, quantity, title in zip(
        panels, ("rmse", "nll"), ("held-out RMSE", "held-out NLL per dimension"), strict=True
    ):
        drawn: set[str] = set()
        for curve in curves:
            label = None if curve.objective in drawn else curve.objective
            drawn.add(curve.objective)
            values: Any = getattr(curve, quantity)
            axes.plot(
                curve.num_updates,
                values,
                color=colours[curve.objective],
                linewidth=1.2,
                label=label,
            )
        axes.set(title=title, xlabel="updates")
    # A line a seed.
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _coloured(objectives: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, COLOURS[i % len(COLOURS)]) for i, name in enumerate(objectives)]


def _of_seeds(rows: Sequence[Row], objective: str, key: str) -> Any:
    return np.array([row[key] for row in rows if row["objective"] == objective])


def _range(values: Any) -> tuple[Any, Any]:
    """Lowest and highest over seeds (the first axis)."""
    return values.min(axis=0), values.max(axis=0)
