"""Built-in rewards and terminations against their simulators, step by step.

Those of MuJoCo's other environments are in `test_mujoco_tasks.py`.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_envs.cartpole_swingup import CartPoleSwingUpEnv
from mbrl_envs.tasks import Task, find_task


@dataclass(frozen=True)
class Case:
    env_id: str
    terminates: bool
    float64_tolerance: float
    """Pendulum pays for its float64 state, but shows float32; the others pay for what they show."""


CASES = [
    Case("Pendulum-v1", terminates=False, float64_tolerance=1e-5),
    Case("InvertedPendulum-v5", terminates=True, float64_tolerance=0.0),
    Case("CartPoleSwingUp-v0", terminates=True, float64_tolerance=1e-14),
    Case("ContinuousCartPole-v0", terminates=True, float64_tolerance=0.0),
]
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.env_id)


@dataclass(frozen=True)
class Transitions:
    """What a simulator said: obs `[N, D]`, action `[N, A]`, the rest per step `[N]`."""

    obs: Tensor
    action: Tensor
    next_obs: Tensor
    reward: Tensor
    terminated: Tensor


def collect(env_id: str, num_episodes: int = 6, max_steps: int = 150) -> Transitions:
    """Random episodes; in every other one actions lean to one side, and beyond the bounds."""
    env = gym.make(env_id).unwrapped
    rng = np.random.default_rng(0)
    assert isinstance(env.action_space, gym.spaces.Box)
    bound = env.action_space.high
    steps: list[tuple[Any, ...]] = []
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        lean = 0.5 * (episode % 2)
        for _ in range(max_steps):
            action = (bound * (rng.uniform(-1.0, 1.0, bound.shape) + lean)).astype(np.float32)
            next_obs, reward, terminated, _, _ = env.step(action)
            steps.append((obs, action, next_obs, reward, terminated))
            obs = next_obs
            if terminated:
                break
    env.close()
    return Transitions(*(torch.as_tensor(np.array(column)) for column in zip(*steps, strict=True)))


def task_of(env_id: str) -> Task:
    task = find_task(gym.make(env_id))
    assert task is not None
    return task


@EACH_CASE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_are_those_of_the_simulator(case: Case, dtype: torch.dtype) -> None:
    task, data = task_of(case.env_id), collect(case.env_id)
    assert data.terminated.any() == case.terminates
    inputs = (data.obs.to(dtype), data.action.to(dtype), data.next_obs.to(dtype))

    assert task.reward_fn is not None
    reward = task.reward_fn(*inputs)
    assert reward.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else case.float64_tolerance
    torch.testing.assert_close(reward, data.reward.to(dtype), rtol=0.0, atol=tolerance)

    assert task.termination_fn is not None
    terminated = task.termination_fn(*inputs)
    assert terminated.dtype == torch.bool
    assert torch.equal(terminated, data.terminated)


@EACH_CASE
@pytest.mark.parametrize("leading_shape", [(), (4,), (5, 100), (2, 3, 4)])
def test_any_leading_shape_gives_what_a_loop_gives(
    case: Case, leading_shape: tuple[int, ...]
) -> None:
    env, task = gym.make(case.env_id), task_of(case.env_id)
    generator = torch.Generator().manual_seed(0)
    num_obs = gym.spaces.flatdim(env.observation_space)
    num_actions = gym.spaces.flatdim(env.action_space)
    obs, action, next_obs = (
        torch.randn(*leading_shape, size, generator=generator)
        for size in (num_obs, num_actions, num_obs)
    )
    for function in (task.reward_fn, task.termination_fn):
        assert function is not None
        batched = function(obs, action, next_obs)
        assert batched.shape == leading_shape
        rows = zip(
            obs.reshape(-1, num_obs),
            action.reshape(-1, num_actions),
            next_obs.reshape(-1, num_obs),
            strict=True,
        )
        looped = torch.stack([function(*row) for row in rows])
        # Vectorised functions may round the last bit otherwise than single ones.
        torch.testing.assert_close(batched.flatten(), looped, rtol=1e-6, atol=1e-6)


INVERTED_PENDULUM_LIMITS = [
    pytest.param(component, value, True, id=f"{component}-{value}")
    for component in range(4)
    for value in (float("nan"), float("inf"), float("-inf"))
] + [
    pytest.param(1, 0.1999, False, id="inside"),
    pytest.param(1, 0.2, False, id="on the limit"),
    pytest.param(1, 0.2001, True, id="outside"),
    pytest.param(1, -0.2001, True, id="outside, to the left"),
    pytest.param(0, 1e30, False, id="large but finite"),
]


@pytest.mark.parametrize(("component", "value", "ends"), INVERTED_PENDULUM_LIMITS)
def test_inverted_pendulum_ends_where_the_simulator_does(
    component: int, value: float, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, task = gym.make("InvertedPendulum-v5").unwrapped, task_of("InvertedPendulum-v5")
    obs, _ = env.reset(seed=0)
    action = np.zeros(1, dtype=np.float32)
    reached = obs.copy()
    reached[component] = value
    monkeypatch.setattr(env, "_get_obs", lambda: reached)
    next_obs, reward, terminated, _, _ = env.step(action)
    assert terminated is ends

    inputs = (torch.as_tensor(obs), torch.as_tensor(action), torch.as_tensor(next_obs))
    assert task.termination_fn is not None
    assert task.termination_fn(*inputs).item() is ends
    assert task.reward_fn is not None
    assert task.reward_fn(*inputs).item() == reward


@pytest.mark.parametrize("x", [-2.401, -2.399, 2.399, 2.4, 2.401])
def test_swing_up_ends_where_the_simulator_does(x: float) -> None:
    env, task = CartPoleSwingUpEnv(), task_of("CartPoleSwingUp-v0")
    env.reset(seed=0)
    env._state = np.array([x, 0.0, 0.0, 0.0])
    next_obs, reward, terminated, _, _ = env.step(np.zeros(1, dtype=np.float32))
    assert terminated is (abs(x) > 2.4)

    inputs = (torch.as_tensor(next_obs), torch.zeros(1), torch.as_tensor(next_obs))
    assert task.termination_fn is not None
    assert task.termination_fn(*inputs).item() is terminated
    assert task.reward_fn is not None
    assert task.reward_fn(*inputs).item() == pytest.approx(reward, abs=1e-6)


def test_swing_up_pays_no_more_for_an_impossible_cosine() -> None:
    task = task_of("CartPoleSwingUp-v0")
    assert task.reward_fn is not None
    impossible = torch.tensor([[0.0, 0.0, 1.5, 0.0, 0.0], [0.0, 0.0, -1.5, 0.0, 0.0]])
    reward = task.reward_fn(impossible, torch.zeros(2, 1), impossible)
    assert reward.tolist() == [1.0, 0.0]


def test_continuous_cartpole_ends_at_nan_and_pays_for_the_last_step() -> None:
    task = task_of("ContinuousCartPole-v0")
    assert task.termination_fn is not None
    assert task.reward_fn is not None
    next_obs = torch.tensor(
        [[0.0, 9.0, 0.2, 9.0], [2.5, 0.0, 0.0, 0.0], [torch.nan, 0, 0, 0], [0, 0, torch.nan, 0]]
    )
    inputs = (next_obs, torch.zeros(4, 1), next_obs)
    assert task.termination_fn(*inputs).tolist() == [False, True, True, True]
    assert task.reward_fn(*inputs).tolist() == [1.0] * 4
