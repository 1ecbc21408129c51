"""The picture of table 3."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbrl_bilevel.evaluation.plots import BLUE, STYLE, WIDTH_INCHES
from mbrl_bilevel.experiments.reproduce.table3_methods import METHODS
from mbrl_bilevel.experiments.reproduce.table3_report import Row, over_seeds


def error_and_likelihood(rows: Sequence[Row]) -> Figure:
    """Draw RMSE and NLL of every method with their 95% intervals, a panel each.

    Args:
        rows: As in results.json.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(1.3 * WIDTH_INCHES, 1.2 + 0.4 * len(methods)), layout="constrained"
        )
        rmse_axes, nll_axes = figure.subplots(1, 2, sharey=True)
        _draw(rmse_axes, rows, methods, "rmse")
        rmse_axes.margins(x=0.1)
        rmse_axes.set(title="test RMSE, raw units")
        rmse_axes.set_yticks(range(len(methods)), [METHODS[method].label for method in methods])
        # The first method on top, with room for its number.
        rmse_axes.set_ylim(len(methods) - 0.5, -0.7)
        _draw(nll_axes, rows, methods, "nll")
        nll_axes.margins(x=0.1)
        nll_axes.set(title="test NLL, nats a dimension")
    return figure


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]], methods: list[str], quantity: str) -> None:
    statistics = np.array([over_seeds(rows, method, quantity) for method in methods])
    axes.errorbar(
        statistics[:, 0],
        range(len(methods)),
        xerr=np.nan_to_num(statistics[:, 1]),
        fmt="o",
        color=BLUE,
        capsize=3,
        elinewidth=1.4,
    )
    for y, (mean, _) in enumerate(statistics):
        axes.annotate(
            f"{mean:.3g}",
            (mean, y),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
        )
