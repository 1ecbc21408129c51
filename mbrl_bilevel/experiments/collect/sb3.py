"""Policies of Stable-Baselines3: loaded, or trained for the purpose."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from mbrl_bilevel.config import SB3PolicyConfig
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.runs import TrainingProgress


def load_sb3(algorithm: str, path: Path, env: gym.Env[Any, Any], device: str) -> BaseAlgorithm:
    """Return a saved policy. This runs what code the file holds.

    Raises:
        ConfigError: If it cannot be loaded, or is of another environment.
    """
    try:
        return _algorithm(algorithm).load(path, env=env, device=device)
    except Exception as error:  # whatever the file holds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"policy.path={str(path)!r} cannot be loaded as {algorithm.upper()}: {reason}"
        ) from error


def make_sb3(
    config: SB3PolicyConfig, env: gym.Env[Any, Any], seed: int, device: str
) -> BaseAlgorithm:
    """Return an untrained policy.

    Raises:
        ConfigError: If the algorithm does not fit the environment, or a setting the algorithm.
    """
    try:
        return _algorithm(config.algorithm)(
            "MlpPolicy", env, seed=seed, device=device, **config.settings
        )
    except Exception as error:  # whatever the settings lead to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"policy.algorithm={config.algorithm!r} with policy.settings={config.settings!r} "
            f"cannot be made: {reason}"
        ) from error


def train_sb3(model: BaseAlgorithm, num_steps: int, progress: TrainingProgress) -> None:
    """Train a policy for so many steps, showing how far it has come."""
    model.learn(num_steps, callback=_Progress(progress, num_steps))


class _Progress(BaseCallback):
    def __init__(self, progress: TrainingProgress, num_steps: int) -> None:
        super().__init__()
        self._progress = progress
        self._last_step = num_steps

    def _on_step(self) -> bool:
        episodes = self.model.ep_info_buffer
        last_return = episodes[-1]["r"] if episodes else None
        # Algorithms that work in batches of steps go beyond the number asked for.
        self._progress.update(min(self.num_timesteps, self._last_step), ep_return=last_return)
        return True


def _algorithm(name: str) -> type[BaseAlgorithm]:
    algorithm: type[BaseAlgorithm] = getattr(stable_baselines3, name.upper())
    return algorithm
