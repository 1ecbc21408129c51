"""The picture of the fans: dimensions below, objectives beside each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mbrl_bilevel.evaluation.plots import DARK_GREY, GREY, STYLE, WIDTH_INCHES
from mbrl_bilevel.experiments.fit.fans import Fan

PANEL_WIDTH_INCHES = 2.5
PANEL_HEIGHT_INCHES = 1.6
FARTHEST = 0.5
"""What the recorded line spans, times this, is shown above and below it at most."""


def draw_fans(fans: Mapping[str, Fan], colours: Mapping[str, str], seed: int) -> Figure:
    """Return the recorded observations of a window, and what each objective's model predicts.

    Args:
        fans: By objective, all of one window; at least one.
        colours: By objective.
        seed: Whose window it is.
    """
    dims = next(iter(fans.values())).dims
    num_rows, num_columns = len(dims), len(fans)
    width = max(WIDTH_INCHES, PANEL_WIDTH_INCHES * num_columns + 0.6)
    size = (width, PANEL_HEIGHT_INCHES * num_rows + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharex=True, sharey="row", squeeze=False)
    for row, dim in enumerate(dims):
        limits = _limits(list(fans.values()), row)
        panels[row, 0].set(ylabel=f"obs[{dim}]", ylim=limits)
        for axes, (objective, fan) in zip(panels[row], fans.items(), strict=True):
            _draw(axes, fan, row, limits, colours[objective])
    for axes, objective in zip(panels[0], fans, strict=True):
        axes.set_title(objective)
    panels[0, 0].xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    label = f"steps ahead, along the first test window of seed {seed}"
    figure.supxlabel(label, fontsize=STYLE["font.size"])
    handles = [
        Line2D([], [], color="black", linewidth=1.2, label="recorded"),
        Line2D([], [], color=DARK_GREY, linestyle="--", linewidth=1.4, label="predicted median"),
        Patch(color=GREY, alpha=0.6, linewidth=0, label="50% of particles"),
        Patch(color=GREY, alpha=0.25, linewidth=0, label="90% of particles"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _draw(axes: Axes, fan: Fan, row: int, limits: tuple[float, float], colour: str) -> None:
    height = limits[1] - limits[0]

    def visible(values: NDArray[np.float32]) -> Any:
        # Nothing sensible is drawn of polygons with corners very far away.
        return np.clip(_finite(values[:, row]), limits[0] - height, limits[1] + height)

    steps = np.arange(len(fan.recorded))
    for low, high, alpha in ((fan.low_90, fan.high_90, 0.2), (fan.low_50, fan.high_50, 0.35)):
        axes.fill_between(steps, visible(low), visible(high), color=colour, alpha=alpha, lw=0)
    axes.plot(steps, visible(fan.median), color=colour, linestyle="--", linewidth=1.4)
    axes.plot(steps, fan.recorded[:, row], color="black", linewidth=1.2)
    axes.set_xlim(0, max(len(steps) - 1, 1))


def _limits(fans: list[Fan], row: int) -> tuple[float, float]:
    """What is shown of a dimension: all bands, unless they leave the recorded line far behind."""
    recorded = fans[0].recorded[:, row]
    lowest, highest = float(recorded.min()), float(recorded.max())
    span = highest - lowest or 1.0
    low = np.nanmin([lowest, *(np.nanmin(_finite(fan.low_90[:, row])) for fan in fans)])
    high = np.nanmax([highest, *(np.nanmax(_finite(fan.high_90[:, row])) for fan in fans)])
    low, high = max(low, lowest - FARTHEST * span), min(high, highest + FARTHEST * span)
    margin = 0.05 * (high - low or 1.0)
    return float(low - margin), float(high + margin)


def _finite(values: NDArray[np.float32]) -> Any:
    """A gap where particles diverged."""
    return np.where(np.isfinite(values), values, np.nan)
