"""Figures of runs and models, drawn without pyplot and its global state."""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from mbrl_bilevel.evaluation.calibration import Calibration
from mbrl_bilevel.evaluation.files import replacing

MAX_PANELS = 12
MAX_EPISODES = 300
"""Training episodes that a learning curve draws one by one, at most."""

# From the colour-blind safe palette of Okabe and Ito.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#8A8A8A"
DARK_GREY = "#5A5A5A"

# Any, as matplotlib 3.11 and earlier versions type the keys differently.
STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": "figure",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
WIDTH_INCHES = 8.0


def learning_curve(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns against environment steps: training episodes thin, evaluations bold.

    Args:
        metrics: the rows of metrics.jsonl; of each, "step" and, where present and finite,
            "rollout/ep_rew" and "eval/mean_reward" are drawn, and so are "eval/exact_return" and
            "eval/optimal_return". Of more than 300 episodes "rollout/ep_rew_mean" is drawn instead.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="environment steps", ylabel="return")
        axes.xaxis.set_major_locator(whole_numbers())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))

        steps, returns = _series(metrics, "rollout/ep_rew")
        label = "training episodes"
        if len(steps) > MAX_EPISODES:
            steps, returns = _series(metrics, "rollout/ep_rew_mean")
            label = "training episodes, mean of 100"
        if steps:
            axes.plot(
                steps,
                returns,
                color=DARK_GREY,
                linewidth=1.0,
                marker="." if len(steps) <= 100 else "",
                label=label,
            )
        steps, returns = _series(metrics, "eval/mean_reward")
        if steps:
            axes.plot(steps, returns, color=BLUE, marker="o", label="evaluation")
        steps, returns = _series(metrics, "eval/exact_return")
        if steps:
            axes.plot(steps, returns, color=ORANGE, marker=".", label="exact mean")
        _, returns = _series(metrics, "eval/optimal_return")
        if returns:
            axes.axhline(returns[-1], color=ORANGE, linestyle=":", label="optimal mean")

        if axes.lines:
            axes.legend()
        else:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "no returns logged", ha="center", transform=axes.transAxes)
    return figure


def trajectory(
    real: NDArray[np.floating[Any]],
    samples: NDArray[np.floating[Any]],
    names: Sequence[str] | None = None,
    interval: float = 0.9,
) -> Figure:
    """A real trajectory and the model's prediction of it, one panel a dimension.

    Args:
        real: `[T+1, D]`.
        samples: `[P, T+1, D]`, the particles of a model rollout from the same start. Where one
            is not finite, the prediction has a gap.
        names: of the D dimensions; by default "obs[0]", "obs[1]", ...
        interval: fraction of the particles within the band, between 0 and 1; it is the central
            one, around the median. Of more than 12 dimensions the first 12 are drawn.

    Raises:
        ValueError: shapes or the number of names do not fit, or `interval` is out of range.
    """
    if real.ndim != 2 or samples.ndim != 3 or samples.shape[1:] != real.shape or not len(samples):
        raise ValueError(
            "real must be [T+1, D] and samples [P, T+1, D] with P > 0, "
            f"got {real.shape} and {samples.shape}"
        )
    num_dims = real.shape[1]
    if names is None:
        names = [f"obs[{i}]" for i in range(num_dims)]
    if len(names) != num_dims:
        raise ValueError(f"there must be {num_dims} names, got {len(names)}")
    if not 0 < interval < 1:
        raise ValueError(f"interval must be strictly between 0 and 1, got {interval}")

    tail = (1 - interval) / 2
    finite = np.where(np.isfinite(samples), samples, np.nan)
    low, median, high = np.quantile(finite, [tail, 0.5, 1 - tail], axis=0)
    num_panels = min(num_dims, MAX_PANELS)
    with matplotlib.rc_context(STYLE):
        figure, panels = _grid(num_panels)
        steps = np.arange(len(real))
        for i, axes in enumerate(panels):
            band = axes.fill_between(
                steps, low[:, i], high[:, i], color=ORANGE, alpha=0.25, linewidth=0
            )
            (middle,) = axes.plot(steps, median[:, i], color=ORANGE, linestyle="--")
            (line,) = axes.plot(steps, real[:, i], color=BLUE)
            axes.set(title=names[i], xlim=(0, max(len(real) - 1, 1)))
            axes.xaxis.set_major_locator(whole_numbers())
        num_left_out = num_dims - num_panels
        left_out = f" ({num_left_out} of {num_dims} dimensions not shown)" if num_left_out else ""
        figure.supxlabel(f"steps{left_out}", fontsize=STYLE["font.size"])
        figure.legend(
            [line, middle, band],
            ["real", "predicted median", f"{interval:.0%} of particles"],
            loc="outside upper center",
            ncols=3,
        )
    return figure


def calibration_curve(calibration: Calibration) -> Figure:
    """Observed against expected coverage: on the diagonal is calibrated, below overconfident."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.0, 6.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="black", linewidth=1.0, linestyle=":", label="ideal")
        for i, observed in enumerate(calibration.observed_per_dim.T):
            axes.plot(
                calibration.expected,
                observed,
                color=GREY,
                alpha=0.5,
                linewidth=0.8,
                label="one dimension" if i == 0 else None,
            )
        axes.plot(
            calibration.expected,
            calibration.observed,
            color=BLUE,
            marker="o",
            label="all dimensions",
        )
        axes.set(
            xlabel="expected coverage",
            ylabel="observed coverage",
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            title=f"calibration error {calibration.expected_calibration_error:.3f}, "
            f"mean std {calibration.sharpness:.3g}",
        )
        axes.text(0.03, 0.97, "underconfident", color=DARK_GREY, va="top")
        axes.text(0.97, 0.25, "overconfident", color=DARK_GREY, ha="right")
        axes.legend(loc="lower right")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, all of it or nothing.

    Missing folders are made.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _series(metrics: Sequence[Mapping[str, Any]], tag: str) -> tuple[list[int], list[float]]:
    """The steps at which the tag was logged, ascending, and its finite values."""
    points = [
        (int(row["step"]), float(row[tag]))
        for row in metrics
        if row.get(tag) is not None and isfinite(row[tag])
    ]
    points.sort()
    return [step for step, _ in points], [value for _, value in points]


def whole_numbers() -> MaxNLocator:
    """Ticks of an axis that counts."""
    return MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True)


def _grid(num_panels: int) -> tuple[Figure, list[Axes]]:
    num_columns = min(num_panels, 3)
    num_rows = ceil(num_panels / num_columns)
    figure = Figure(figsize=(WIDTH_INCHES, 1.4 + 1.8 * num_rows), layout="constrained")
    return figure, [figure.add_subplot(num_rows, num_columns, i + 1) for i in range(num_panels)]
