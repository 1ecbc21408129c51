"""Agents and environments small enough for tests of a fraction of a second."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_agents import PETS, Callback
from mbrl_bilevel.types import Agent

SMALL_MODEL: dict[str, Any] = {
    "ensemble_size": 3,
    "num_elite_members": 2,
    "hidden_sizes": [8],
    "batch_size": 16,
    "num_updates": 20,
    "eval_every": 10,
}
SMALL_PLANNER: dict[str, Any] = {
    "name": "icem",
    "horizon": 4,
    "population_size": 8,
    "num_iterations": 2,
    "num_elites": 4,
    "kept_elites": 0.5,
}


def small_pets(env: gym.Env[Any, Any] | str = "Pendulum-v1", **arguments: Any) -> PETS:
    """An agent that plans from step 20 on and fits every 15 steps."""
    defaults: dict[str, Any] = {
        "model": SMALL_MODEL,
        "planner": SMALL_PLANNER,
        "learning_starts": 20,
        "model_train_freq": 15,
        "num_particles": 3,
    }
    return PETS(env, **{**defaults, **arguments})


class SpacesEnv(gym.Env[Any, Any]):
    """Any spaces; observes zeros and pays nothing, in episodes of four steps."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]):
        self.observation_space = observation_space
        self.action_space = action_space
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return np.zeros(self.observation_space.shape or ()), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} not in {self.action_space}"
        self.actions.append(action)
        truncated = len(self.actions) % 4 == 0
        return np.zeros(self.observation_space.shape or ()), 0.0, False, truncated, {}


class SaveAt(Callback):
    """Saves the agent after one of its steps."""

    def __init__(self, step: int, path: Any) -> None:
        self.step = step
        self.path = path
        self.in_episode: bool | None = None

    def on_step(self, agent: Agent) -> bool:
        if agent.num_timesteps == self.step:
            assert isinstance(agent, PETS)
            self.in_episode = not agent.interaction.is_new_episode
            agent.save(self.path)
        return True


def assert_identical(first: Any, second: Any, where: str = "state") -> None:
    """Compare nested states bit for bit, types included."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert list(first) == list(second), where
        for key in first:
            assert_identical(first[key], second[key], f"{where}[{key!r}]")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_identical(*pair, f"{where}[{index}]")
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, where
        assert torch.equal(first, second), where
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype, where
        assert np.array_equal(first, second), where
    else:
        assert first == second, where


def differ(first: Any, second: Any) -> bool:
    """Whether two nested states differ anywhere."""
    try:
        assert_identical(first, second)
    except AssertionError:
        return True
    return False
