"""A picture of what a model is made to predict well, and what it looks at."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_bilevel.evaluation.plots import BLUE, GREY, ORANGE, STYLE, WIDTH_INCHES, whole_numbers


def what_matters(
    shares: NDArray[np.floating] | None, decays: NDArray[np.floating] | None, obs_size: int
) -> Figure:
    """Bars of the predicted dimensions' shares in the return, and of the inputs' weight decays.

    Args:
        shares: Of each predicted dimension in the error of the return, `[D]`, observations first,
            then the reward if it is learned; they add up to one. None: one panel fewer.
        decays: Learned weight decay of each observed input, `[D_obs]`. None: one panel fewer.
        obs_size: D_obs.

    Raises:
        ValueError: Both are None.
    """
    num_panels = (shares is not None) + (decays is not None)
    if num_panels == 0:
        raise ValueError("neither shares nor decays")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 0.8 + 2.4 * num_panels), layout="constrained")
        panels = figure.subplots(num_panels, squeeze=False)[:, 0]
        if shares is not None:
            rest = ", then reward" if len(shares) > obs_size else ""
            _bars(panels[0], shares, obs_size)
            panels[0].axhline(1 / len(shares), color=GREY, linewidth=1.0, linestyle=":")
            panels[0].set(
                title="share in the error of the return (dotted: all alike)",
                xlabel=f"predicted observation{rest}",
                ylabel="share",
            )
        if decays is not None:
            _bars(panels[-1], decays, obs_size)
            panels[-1].set(
                title="weight decay of the inputs (high: switched off)",
                xlabel="observation",
                ylabel="decay",
                yscale="log",
            )
    return figure


def _bars(axes: Axes, heights: NDArray[np.floating], obs_size: int) -> None:
    """Draw a bar for each dimension, observations in another colour than what follows them."""
    colors = [BLUE if i < obs_size else ORANGE for i in range(len(heights))]
    axes.bar(np.arange(len(heights)), heights, color=colors)
    axes.xaxis.set_major_locator(whole_numbers())
