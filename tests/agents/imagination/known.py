"""Dynamics that are known, to be imagined, and the same as ordinary environments."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from mbrl_agents.imagination import ImaginedDynamics, ImaginedStep
from mbrl_bilevel.data import ActionCodec

PENDULUM = gym.make("Pendulum-v1")
TORQUE = ActionCodec(PENDULUM.action_space)


class TruePendulum(ImaginedDynamics):
    """The physics of Pendulum-v1; ends where it spins faster than `max_spin`."""

    def __init__(self, max_spin: float = math.inf) -> None:
        self.max_spin = max_spin

    def step(self, obs: Tensor, action: Tensor, _: torch.Generator) -> ImaginedStep:
        angle, speed = torch.atan2(obs[:, 1], obs[:, 0]), obs[:, 2]
        torque = TORQUE.decode(action)[:, 0]
        cost = angle.square() + 0.1 * speed.square() + 0.001 * torque.square()
        speed = (speed + (15.0 * angle.sin() + 3.0 * torque) * 0.05).clamp(-8.0, 8.0)
        angle = angle + speed * 0.05
        next_obs = torch.stack([angle.cos(), angle.sin(), speed], dim=-1)
        return ImaginedStep(next_obs, -cost, speed.abs() > self.max_spin, torch.zeros_like(cost))


class PendulumEnv(gym.Env[Any, Any]):
    """`TruePendulum` as an ordinary environment, beginning at `start` every time."""

    observation_space = PENDULUM.observation_space
    action_space = PENDULUM.action_space

    def __init__(self, start: NDArray[np.float32], max_spin: float = math.inf) -> None:
        self.start = start
        self.obs = start
        self.dynamics = TruePendulum(max_spin)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.obs = self.start
        return self.obs, {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        step = self.dynamics.step(
            torch.as_tensor(self.obs)[None], TORQUE.encode(action[None]), torch.Generator()
        )
        self.obs = step.next_obs[0].numpy()
        return self.obs, step.reward.item(), bool(step.terminated), False, {}


def real_pendulums(
    start: NDArray[np.float32], num_envs: int, length: int, max_spin: float = math.inf
) -> DummyVecEnv:
    """What `LearnedVecEnv` over `TruePendulum` has to be like."""

    def make() -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(PendulumEnv(start, max_spin), length)

    return DummyVecEnv([make] * num_envs)


class Counting(ImaginedDynamics):
    """Moves `(count, end)` to `(count + 1, end)`, pays the action, ends when `end` is reached.

    The count is nan after `breaks_at`.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, breaks_at: float = math.inf) -> None:
        self.breaks_at = breaks_at
        self.num_refreshed = 0

    def step(self, obs: Tensor, action: Tensor, _: torch.Generator) -> ImaginedStep:
        count = obs[:, 0] + 1
        terminated = count >= obs[:, 1]
        count = count.where(count <= self.breaks_at, torch.nan)
        next_obs = torch.stack([count, obs[:, 1]], dim=-1)
        return ImaginedStep(next_obs, action[:, 0], terminated, torch.zeros_like(count))

    def refresh(self) -> None:
        self.num_refreshed += 1


def counting_spaces() -> dict[str, Any]:
    return {
        "observation_space": Counting.observation_space,
        "action_space": Counting.action_space,
    }
