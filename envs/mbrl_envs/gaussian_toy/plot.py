"""A picture of predictions and targets."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mbrl_envs.gaussian_toy.problem import GaussianProblem


def plot_errors(
    figure: Figure, predictions: list[tuple[Any, Any, float]], problem: GaussianProblem
) -> None:
    """Scatter targets and predictions in their first two dimensions, joined by lines.

    With one dimension, predictions are drawn over the targets.
    """
    axes = figure.add_subplot()
    low, high = problem.action_space.low, problem.action_space.high
    size = len(low)
    y_hat = np.array([action for action, _, _ in predictions]).reshape(-1, size)
    y = np.array([target for _, target, _ in predictions]).reshape(-1, size)
    if size == 1:
        axes.scatter(y[:, 0], y_hat[:, 0], s=8)
        axes.axline((low[0], low[0]), slope=1.0, color="0.7", linewidth=0.8)
        axes.set(xlabel="y", ylabel="prediction")
    else:
        axes.plot(*np.stack([y_hat, y])[..., :2].T.swapaxes(1, 2), color="0.8", linewidth=0.6)
        axes.scatter(y_hat[:, 0], y_hat[:, 1], s=8, color="C0", zorder=2, label="prediction")
        axes.scatter(y[:, 0], y[:, 1], s=8, color="C1", zorder=2, label="y")
        axes.legend(loc="upper left")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[:2][-1], high[:2][-1])
