"""Hints at what is not observed: the past predicts what the present observation does not."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_bilevel.experiments.check_env.report import Finding, found
from mbrl_bilevel.experiments.check_env.vectors import EpisodeVectors

MIN_STEPS = 400
MIN_ROWS = 5
"""Steps to fit to, for each number that predictions are made from."""
MAX_FEATURES = 200
"""Smooth random functions: all of the present, or half of it and half of present and past."""
RIDGE = 1e-3
MIN_UNEXPLAINED = 0.3
"""Share of the variance that the present has to leave open."""
MAX_LEFT = 0.5
"""Share of the variance that the past may leave, and of what the present left."""

Array = NDArray[np.float64]


def check_hidden_state(
    episodes: Sequence[EpisodeVectors], action_space: gym.Space[Any], generator: np.random.Generator
) -> Iterator[Finding]:
    """Predict with and without the step before, by ridge regression on products and
    random functions.

    The errors compared are of steps held out, every other stretch of 25. A share of the variance
    that the past halves is a sign that observation and action are no complete state.

    Args:
        episodes: Recorded.
        action_space: Box or Discrete.
        generator: Of the random features.
    """
    windows = [_windows(episode, action_space) for episode in episodes if len(episode.rewards) > 1]
    if not windows:
        return
    obs, action, next_obs, reward, past = (
        np.concatenate(parts) for parts in zip(*windows, strict=True)
    )
    if len(obs) < MIN_STEPS:
        return
    change = next_obs - obs
    varying = np.flatnonzero(change.std(axis=0) > 0)
    present = np.concatenate([obs, action], axis=1)
    before, after = _unexplained(present, past, change[:, varying], generator)
    helped = _helped(before, after)
    if helped.size:
        index = int(helped[np.argmin(after[helped] / before[helped])])
        yield found(
            "next_obs_needs_history",
            f"dimension {varying[index]}: {min(before[index], 1.0):.0%} of the variance of its "
            f"change cannot be predicted from observation and action, and {after[index]:.0%} with "
            "those of the step before",
            dimensions=tuple(varying[helped].tolist()),
        )
    if reward.std() == 0:
        return
    present = np.concatenate([obs, action, next_obs], axis=1)
    before, after = _unexplained(present, past, reward[:, None], generator)
    if _helped(before, after).size:
        yield found(
            "reward_needs_history",
            f"{min(before[0], 1.0):.0%} of the reward's variance cannot be predicted from "
            f"observation, action and next observation, and {after[0]:.0%} with the step before",
        )


def _windows(episode: EpisodeVectors, action_space: gym.Space[Any]) -> tuple[Array, ...]:
    """Return obs, action, next_obs, reward, and the change, action and reward before."""
    if isinstance(action_space, spaces.Discrete):
        actions = np.eye(int(action_space.n))[episode.actions - int(action_space.start)]
    else:
        actions = episode.actions.reshape(len(episode.actions), -1).astype(float)
    # The change, as two observations in a row are nearly the same to a regression with a ridge.
    last_change = np.diff(episode.obs, axis=0)[:-1]
    past = np.concatenate([last_change, actions[:-1], episode.rewards[:-1, None]], axis=1)
    return episode.obs[1:-1], actions[1:], episode.obs[2:], episode.rewards[1:], past


def _unexplained(
    present: Array, past: Array, targets: Array, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Return the shares of each target's variance that are left without and with the past.

    Ones, which are no hint, where there are too few steps for so many dimensions.
    """
    both = np.concatenate([present, past], axis=1)
    num_products = present.shape[1] * (present.shape[1] + 1) // 2
    if len(targets) / 2 < MIN_ROWS * (num_products + present.shape[1] + both.shape[1]):
        return np.ones(targets.shape[1]), np.ones(targets.shape[1])
    known = _products(present)
    num = min(MAX_FEATURES, len(targets) // (2 * MIN_ROWS))
    without = [known, _smooth(present, num, generator)]
    with_past = [
        known,
        _normal(past),
        _smooth(present, num // 2, generator),
        _smooth(both, num // 2, generator),
    ]
    return (
        _left(np.concatenate(without, axis=1), targets),
        _left(np.concatenate(with_past, axis=1), targets),
    )


def _normal(inputs: Array) -> Array:
    """Return the inputs that vary, normalised."""
    std = inputs.std(axis=0)
    return np.asarray((inputs - inputs.mean(axis=0))[:, std > 0] / std[std > 0])


def _products(inputs: Array) -> Array:
    """Return the normalised inputs and the products of any two."""
    normal = _normal(inputs)
    first, second = np.triu_indices(normal.shape[1])
    return np.concatenate([normal, normal[:, first] * normal[:, second]], axis=1)


def _smooth(inputs: Array, num: int, generator: np.random.Generator) -> Array:
    """Return `num` smooth random functions of the inputs."""
    normal = _normal(inputs)
    weights = generator.normal(size=(normal.shape[1], num)) / np.sqrt(max(normal.shape[1], 1))
    return np.asarray(np.tanh(normal @ weights + generator.normal(size=num)))


def _left(features: Array, targets: Array) -> Array:
    """Return the share of each target's variance that ridge regression leaves held out, `[D]`."""
    held_out = np.arange(len(features)) // 25 % 2 == 1
    mean = targets[~held_out].mean(axis=0)
    design = features[~held_out]
    gram = design.T @ design + RIDGE * len(design) * np.eye(design.shape[1])
    weights = np.linalg.solve(gram, design.T @ (targets[~held_out] - mean))
    error = np.square(targets[held_out] - mean - features[held_out] @ weights).mean(axis=0)
    variance = targets[held_out].var(axis=0)
    return np.asarray(error / np.where(variance > 0, variance, np.inf))


def _helped(without: Array, with_past: Array) -> NDArray[np.intp]:
    # Above 1 a prediction is worse than the mean: too hard for this regression, and no hint.
    limit = MAX_LEFT * np.minimum(without, 1.0)
    return np.flatnonzero((without > MIN_UNEXPLAINED) & (with_past < limit))
