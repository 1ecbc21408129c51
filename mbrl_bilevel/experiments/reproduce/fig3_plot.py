"""The picture of figure 3."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mbrl_bilevel.evaluation.plots import BLUE, DARK_GREY, ORANGE, STYLE, WIDTH_INCHES

LOOKS: dict[str, dict[str, Any]] = {
    "functional": {"color": BLUE, "marker": "o", "markersize": 9, "markerfacecolor": "none"},
    "cg": {"color": ORANGE, "marker": "x", "linestyle": "--"},
    "neumann": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "nystrom": {"color": "#CC79A7", "marker": "s", "linestyle": ":"},
    "unrolled": {"color": "#E69F00", "marker": ".", "linestyle": "-"},
}
"""Paths lie on top of each other: markers and dashes let those below show through."""


def reward_paths(solvers: Mapping[str, Mapping[str, Any]], u_true: float, seed: int) -> Figure:
    """Draw u, the outer loss and the hypergradient over outer steps.

    Args:
        solvers: By name: `u_hat`, and `history` with lists of `u`, `outer_loss` and
            `hypergradient`.
        u_true: A line in the first panel.
        seed: Named in the title.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.5 * WIDTH_INCHES, 4.0), layout="constrained")
        u_axes, loss_axes, gradient_axes = figure.subplots(1, 3)
        for name, result in solvers.items():
            history = result["history"]
            steps = np.arange(len(history["u"]))
            look = {"linewidth": 1.4, "label": name, **LOOKS[name]}
            u_axes.plot([*steps, len(steps)], [*history["u"], result["u_hat"]], **look)
            loss_axes.plot(steps, history["outer_loss"], **look)
            gradient_axes.plot(steps, np.abs(history["hypergradient"]), **look)
        u_axes.axhline(u_true, color=DARK_GREY, linestyle=":", linewidth=1.2, zorder=0)
        u_axes.annotate(
            f"true u = {u_true:.3g}",
            (1, u_true),
            xycoords=("axes fraction", "data"),
            xytext=(-4, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            color=DARK_GREY,
        )
        u_axes.set(title=f"reward parameter u (seed {seed})", ylim=(0, None))
        loss_axes.set(title="held-out NLL, nats a sample")
        gradient_axes.set(title="|d NLL / d log u|", yscale="log")
        for axes in (u_axes, loss_axes, gradient_axes):
            axes.set_xlabel("outer step")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = u_axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure
