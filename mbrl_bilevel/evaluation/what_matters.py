"""A picture of what a model is made to predict well, and what it looks at."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_bilevel.evaluation.plots import BLUE, GREY, ORANGE, STYLE, WIDTH_INCHES


def what_matters(
    shares: NDArray[np.floating] | None, decays: NDArray[np.floating] | None, obs_size: int
) -> Figure:
    """Bars of the predicted dimensions' shares in the return, and of the inputs' weight decays.

    Args:
        shares: Of each predicted dimension in the error of the return, `[D]`, observations first,
            then the reward if it is learned; they add up to one. None: one panel fewer.
        decays: Learned weight decay of each input, `[D_x]`, observations first, then action
            features. None: one panel fewer.
        obs_size: D_obs.

    Raises:
        ValueError: Both are None.
    """
    panels = [each for each in (shares, decays) if each is not None]
    if not panels:
        raise ValueError("neither shares nor decays")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 0.8 + 2.4 * len(panels)), layout="constrained")
        rows = iter(range(1, len(panels) + 1))
        if shares is not None:
            rest = ", then reward" if len(shares) > obs_size else ""
            axes = figure.add_subplot(len(panels), 1, next(rows))
            axes.bar(np.arange(len(shares)), shares, color=_colors(len(shares), obs_size))
            axes.axhline(1 / len(shares), color=GREY, linewidth=1.0, linestyle=":")
            axes.set(
                title="share in the error of the return (dotted: all alike)",
                xlabel=f"predicted observation{rest}",
                ylabel="share",
            )
        if decays is not None:
            axes = figure.add_subplot(len(panels), 1, next(rows))
            axes.bar(np.arange(len(decays)), decays, color=_colors(len(decays), obs_size))
            axes.set(
                title="weight decay of the inputs (high: switched off)",
                xlabel="observation, then action",
                ylabel="decay",
                yscale="log",
            )
    return figure


def _colors(size: int, obs_size: int) -> list[str]:
    return [BLUE if i < obs_size else ORANGE for i in range(size)]
