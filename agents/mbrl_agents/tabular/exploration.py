"""Greedy actions, and random ones on the way."""

import numpy as np
from numpy.typing import NDArray

from mbrl_agents.tabular.config import ExplorationConfig


def best_action(q_values: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Return one of the best actions of `[A]`, each with the same chance."""
    best = np.flatnonzero(q_values == q_values.max())
    return int(best[rng.integers(len(best))])


def best_actions(q_values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return one of the best actions of each row `[S, A]`, each with the same chance, `[S]`.

    What rounding makes of equal values counts as equal.
    """
    best = q_values.max(axis=1, keepdims=True)
    equal = q_values >= best - 1e-12 * (1.0 + np.abs(best))
    chosen: NDArray[np.int64] = np.where(equal, rng.random(q_values.shape), -1.0).argmax(axis=1)
    return chosen


def epsilon_greedy(
    q_values: NDArray[np.float64],
    config: ExplorationConfig,
    num_timesteps: int,
    rng: np.random.Generator,
) -> int:
    """Return a random action of `[A]`, with a probability that falls, else one of the best.

    Args:
        q_values: `[A]`.
        config: How the probability falls.
        num_timesteps: Environment steps so far.
        rng: Draws.
    """
    progress = min(1.0, num_timesteps / config.steps)
    if rng.random() < config.start + progress * (config.end - config.start):
        return int(rng.integers(len(q_values)))
    return best_action(q_values, rng)
