"""Recorded episodes in place of an environment's."""

from typing import Any

import gymnasium as gym

from mbrl_bilevel.config import DatasetConfig
from mbrl_bilevel.data import ReplayBuffer
from mbrl_bilevel.data.datasets import open_dataset
from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import DatasetError


def record_dataset(config: DatasetConfig, env: gym.Env[Any, Any], buffer: ReplayBuffer) -> None:
    """Put all transitions of a dataset into `buffer`, in order.

    Raises:
        ConfigError: If there is no such dataset.
        DatasetError: If it is damaged, or its spaces are not those of `env`.
    """
    dataset = open_dataset(config)
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
