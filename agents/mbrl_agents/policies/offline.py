"""Recorded episodes in place of an environment's."""

from typing import Any

import gymnasium as gym

from mbrl_bilevel.config import DatasetConfig
from mbrl_bilevel.data import ReplayBuffer
from mbrl_bilevel.data.datasets import load_episodes
from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import DatasetError

MEGABYTE = 2**20


def record_dataset(config: DatasetConfig, env: gym.Env[Any, Any], buffer: ReplayBuffer) -> None:
    """Put all transitions of a dataset into `buffer`, in order.

    Raises:
        ConfigError: If there is no such dataset.
        DatasetError: If it is damaged, or its spaces are not those of `env`.
    """
    dataset = load_episodes(
        config.path, download=config.download, memory_limit=config.memory_mb * MEGABYTE
    )
    for name in ("observation_space", "action_space"):
        recorded, expected = getattr(dataset, name), getattr(env, name)
        if type(recorded) is not type(expected) or recorded.shape != expected.shape:
            raise DatasetError(
                f"dataset {dataset.name} has {name} {recorded}, but {env_name(env)} has {expected}"
            )
    for row in range(dataset.num_steps):
        buffer.add(
            dataset.obs[row],
            dataset.actions[row],
            float(dataset.rewards[row]),
            dataset.next_obs[row],
            bool(dataset.terminated[row]),
            bool(dataset.truncated[row]),
        )
