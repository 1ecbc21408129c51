"""A wrapper that remembers what an environment returned last."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


class LastObservation(gym.Wrapper[Any, Any, Any, Any]):
    """Changes nothing; `last_obs` is the latest observation, None before the first reset."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.last_obs: NDArray[Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self.last_obs = np.array(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.last_obs = np.array(obs)
        return obs, reward, terminated, truncated, info
