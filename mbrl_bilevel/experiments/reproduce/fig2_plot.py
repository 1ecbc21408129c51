"""The picture of figure 2."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Patch

from mbrl_bilevel.evaluation.plots import GREY, STYLE, WIDTH_INCHES
from mbrl_bilevel.experiments.reproduce.fig1_plot import LOOKS
from mbrl_bilevel.experiments.reproduce.methods import METHODS
from mbrl_bilevel.experiments.reproduce.statistics import shown
from mbrl_bilevel.experiments.reproduce.synthetic import NOISE_STD, SHIFT

STANDARD_DEVIATIONS = (1, 2)
"""Of these, a contour each."""


def densities(results: Mapping[str, Any], seed: int) -> Figure:
    """Draw contours of the true and of the learned densities of y, a panel a method.

    Args:
        results: `shown_inputs` `[N, 2]`, and `methods` by name: `kl`, and `shown` with `mean`
            and `std`, both `[N, 2]`.
        seed: Of the densities that are shown.
    """
    true_means = [[value + SHIFT for value in x] for x in results["shown_inputs"]]
    true_stds = [[NOISE_STD, NOISE_STD]] * len(true_means)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.3 * WIDTH_INCHES, 7.6), layout="constrained")
        panels = figure.subplots(2, 3, sharex=True, sharey=True)
        for axes, (method, entry) in zip(panels.flat, results["methods"].items(), strict=True):
            _draw(axes, true_means, true_stds, color=GREY, fill=True, alpha=0.3, linewidth=0)
            color = LOOKS[method]["color"]
            gaussians = entry["shown"]
            _draw(
                axes,
                gaussians["mean"],
                gaussians["std"],
                edgecolor=color,
                fill=False,
                linewidth=1.4,
            )
            axes.plot(*zip(*gaussians["mean"], strict=True), "+", color=color)
            kl = shown(entry["kl"]["mean"], entry["kl"]["margin"])
            axes.set(title=f"{METHODS[method]}\nKL {kl}", aspect="equal")
            axes.set(xlim=(-3.5, 15.5), ylim=(-3.5, 15.5), xticks=[0, 5, 10], yticks=[0, 5, 10])
        for axes in panels[-1]:
            axes.set_xlabel("y, first dimension")
        for axes in panels[:, 0]:
            axes.set_ylabel("y, second dimension")
        figure.legend(
            [
                Patch(color=GREY, alpha=0.5, linewidth=0),
                Line2D([], [], color="black", linewidth=1.4),
            ],
            ["true density", f"learned (seed {seed}), 1 and 2 standard deviations"],
            loc="outside upper center",
            ncols=2,
        )
    return figure


def _draw(axes: Axes, means: list[list[float]], stds: list[list[float]], **look: Any) -> None:
    """Contours of independent Gaussians."""
    for (x, y), (x_std, y_std) in zip(means, stds, strict=True):
        for num in STANDARD_DEVIATIONS:
            contour = Ellipse(
                (x, y), 2 * num * x_std, 2 * num * y_std, **{"linewidth": 1.4, **look}
            )
            axes.add_patch(contour)
