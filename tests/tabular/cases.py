"""Finite processes for the tests: Gymnasium's, this project's, and random ones."""

from functools import cache

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import mbrl_envs  # noqa: F401 (registers)
from mbrl_bilevel.tabular import TabularMDP
from mbrl_envs.tasks import read_tables

SMALL = ["FrozenLake-v1", "CliffWalkingSlippery-v1", "GridWorld-v0", "Chain-v0", "Garnet-v0"]
ALL = [*SMALL, "CliffWalking-v1", "Taxi-v4"]


@cache
def tables(env_id: str) -> TabularMDP:
    return read_tables(gym.make(env_id))


def random_mdp(seed: int, num_states: int = 5, num_actions: int = 3) -> TabularMDP:
    """Every step possible, and each terminates with a probability of its own."""
    rng = np.random.default_rng(seed)
    shape = (num_states, num_actions, num_states)
    return TabularMDP(
        rng.dirichlet(np.ones(num_states), size=shape[:2]),
        rng.standard_normal(shape),
        rng.uniform(0, 0.5, shape),
        rng.dirichlet(np.ones(num_states)),
    )


def random_counts(
    seed: int, num_rows: int = 12, num_classes: int = 6, most: int = 30
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of inner and of held-out classes `[N, C]`, some rows and classes without any."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(num_classes, 0.4), size=num_rows)
    inner = np.stack([rng.multinomial(rng.integers(most), p) for p in probs])
    held_out = np.stack([rng.multinomial(rng.integers(most // 3), p) for p in probs])
    return inner, held_out
