"""Recorded episodes as the vectors that a model would learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_bilevel.environments import is_image, space_leaves
from mbrl_bilevel.experiments.check_env.recording import RecordedEpisode


@dataclass(frozen=True)
class EpisodeVectors:
    """An episode of T steps.

    Attributes:
        obs: `[T + 1, D]`, flattened, that of the reset first.
        actions: `[T, *shape]`, the environment's own.
        rewards: `[T]`.
        terminated: `[T]`, bool.
    """

    obs: NDArray[np.float64]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]


def as_vectors(episodes: Sequence[RecordedEpisode], env: gym.Env[Any, Any]) -> list[EpisodeVectors]:
    """Return the episodes that have a step; none if any of it has no vectors, or is not finite."""
    space = env.observation_space
    if not has_vectors(space) or not isinstance(env.action_space, spaces.Box | spaces.Discrete):
        return []
    try:
        vectors = [_convert(space, record) for record in episodes if record.steps]
    except (TypeError, ValueError, KeyError, AttributeError):  # reported as what it is elsewhere
        return []
    is_usable = all(
        each.obs.ndim == 2 and np.isfinite(each.obs).all() and np.isfinite(each.rewards).all()
        for each in vectors
    )
    return vectors if is_usable else []


def has_vectors(space: gym.Space[Any]) -> bool:
    """Whether training turns observations of this space into vectors."""
    if isinstance(space, spaces.Box):
        return len(space.shape) == 1
    return (
        isinstance(space, spaces.Dict | spaces.Tuple)
        and space.is_np_flattenable
        and not any(is_image(leaf) for _, leaf in space_leaves(space))
    )


def _convert(space: gym.Space[Any], record: RecordedEpisode) -> EpisodeVectors:
    return EpisodeVectors(
        np.stack([np.asarray(spaces.flatten(space, obs), float) for obs in record.observations]),
        np.stack([np.asarray(step.action) for step in record.steps]),
        np.array([float(step.reward) for step in record.steps]),
        np.array([bool(step.terminated) for step in record.steps]),
    )
