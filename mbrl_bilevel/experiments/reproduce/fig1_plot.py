"""The picture of figure 1, and the looks that it shares with figure 2."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from mbrl_bilevel.evaluation.plots import BLUE, DARK_GREY, ORANGE, STYLE, WIDTH_INCHES
from mbrl_bilevel.experiments.reproduce.methods import ENTROPY, METHODS
from mbrl_bilevel.experiments.reproduce.synthetic import NOISE_STD

LOOKS: dict[str, dict[str, Any]] = {
    "mse": {"color": "#009E73", "marker": "", "linestyle": "--"},
    "nll": {"color": "black", "marker": "", "linestyle": "-."},
    "pg_identity": {"color": ORANGE, "marker": "x"},
    "pg_trace": {"color": "#E69F00", "marker": "s", "linestyle": ":"},
    "pg_full": {"color": "#CC79A7", "marker": "^", "linestyle": "--"},
    "learned": {"color": BLUE, "marker": "o", "linewidth": 2.4},
}
_DODGE = 0.018
"""Methods at one temperature stand side by side: a step, in units of log10."""


def against_temperature(results: Mapping[str, Any]) -> Figure:
    """Draw RMSE and NLL with their 95% intervals.

    Args:
        results: `temperatures`, and `methods` by name: `rmse` and `nll`, with `mean` and
            `margin` lists over the temperatures.
    """
    temperatures = np.array(results["temperatures"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.3 * WIDTH_INCHES, 4.8), layout="constrained")
        rmse_axes, nll_axes = figure.subplots(1, 2)
        _draw(rmse_axes, temperatures, results["methods"], "rmse", 0.0)
        rmse_axes.axhline(NOISE_STD, color=DARK_GREY, linewidth=1.0)
        rmse_axes.text(
            0.99,
            NOISE_STD,
            "the noise's own",
            transform=rmse_axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            color=DARK_GREY,
        )
        rmse_axes.set_title("test RMSE, a dimension")
        _draw(nll_axes, temperatures, results["methods"], "nll", ENTROPY)
        nll_axes.set(title=f"test NLL above the best, {ENTROPY:.3f} (nats a dimension)")
        nll_axes.set_yscale("log")
        handles, labels = rmse_axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _draw(
    axes: Axes,
    temperatures: NDArray[np.floating[Any]],
    methods: Mapping[str, Any],
    quantity: str,
    subtracted: float,
) -> None:
    for i, method in enumerate(methods):
        entry = methods[method][quantity]
        axes.errorbar(
            temperatures * 10 ** (_DODGE * (i - 0.5 * len(METHODS))),
            np.array(entry["mean"]) - subtracted,
            yerr=np.nan_to_num(entry["margin"]),
            capsize=2,
            elinewidth=1.0,
            label=METHODS[method],
            **LOOKS[method],
        )
    axes.set(xscale="log", xlabel="temperature λ", xticks=temperatures)
    axes.set_xticklabels([f"{temperature:g}" for temperature in temperatures])
    axes.xaxis.set_minor_locator(NullLocator())
