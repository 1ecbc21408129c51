"""Rewards and terminations of MuJoCo's tasks against the simulator, step by step."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_envs.tasks import Task, find_task, inverted_double_pendulum

EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Case:
    """An environment, and which functions of it are known."""

    env_id: str
    knows_reward: bool
    terminates: bool
    with_positions: bool = False
    """The x position comes first in the observation."""

    def __str__(self) -> str:
        return self.env_id + ("-with-positions" if self.with_positions else "")

    def make(self) -> gym.Env[Any, Any]:
        if self.with_positions:
            return gym.make(self.env_id, exclude_current_positions_from_observation=False)
        return gym.make(self.env_id)

    def task(self) -> Task:
        task = find_task(self.make())
        assert task is not None
        assert task.termination_fn is not None
        return task


CASES = [
    Case("Ant-v5", knows_reward=False, terminates=True),
    Case("Ant-v5", knows_reward=False, terminates=True, with_positions=True),
    Case("HalfCheetah-v5", knows_reward=False, terminates=False),
    Case("HalfCheetah-v5", knows_reward=True, terminates=False, with_positions=True),
    Case("Hopper-v5", knows_reward=False, terminates=True),
    Case("Hopper-v5", knows_reward=True, terminates=True, with_positions=True),
    Case("InvertedDoublePendulum-v5", knows_reward=False, terminates=True),
    Case("Pusher-v5", knows_reward=True, terminates=False),
    Case("Reacher-v5", knows_reward=True, terminates=False),
    Case("Swimmer-v5", knows_reward=False, terminates=False),
    Case("Swimmer-v5", knows_reward=True, terminates=False, with_positions=True),
    Case("Walker2d-v5", knows_reward=False, terminates=True),
    Case("Walker2d-v5", knows_reward=True, terminates=True, with_positions=True),
]
WITH_HEALTH = [case for case in CASES if case.env_id in ("Ant-v5", "Hopper-v5", "Walker2d-v5")]
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@dataclass(frozen=True)
class Transitions:
    """What a simulator said: obs `[N, D]`, action `[N, A]`, the rest per step `[N]`."""

    obs: Tensor
    action: Tensor
    next_obs: Tensor
    reward: Tensor
    terminated: Tensor

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the functions are given."""
        return self.obs.to(dtype), self.action.to(dtype), self.next_obs.to(dtype)


def unwrapped(case: Case) -> Any:
    """Return the `MujocoEnv`, whose state can be set; most of it is untyped."""
    return case.make().unwrapped


@cache
def collect(case: Case, num_episodes: int = 24, max_steps: int = 60) -> Transitions:
    """Episodes of uniform actions, of full ones held, and of ones beyond the bounds.

    Every other episode starts with a kick: with velocities that observations clip.
    """
    env = unwrapped(case)
    rng = np.random.default_rng(0)
    bound = env.action_space.high
    steps: list[tuple[Any, ...]] = []
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        if episode % 2:
            env.set_state(env.data.qpos, env.data.qvel + rng.normal(0.0, 5.0, env.model.nv))
            obs = env._get_obs()
        held = rng.choice([-1.0, 1.0], bound.shape)
        for _ in range(max_steps):
            uniform = rng.uniform(-1.0, 1.0, bound.shape)
            action = (bound * (uniform, held, 3.0 * uniform)[episode % 3]).astype(np.float32)
            next_obs, reward, terminated, _, _ = env.step(action)
            steps.append((obs, action, next_obs, reward, terminated))
            obs = next_obs
            if terminated:
                break
    env.close()
    return Transitions(*(torch.as_tensor(np.array(column)) for column in zip(*steps, strict=True)))


@EACH_CASE
def test_what_is_known(case: Case) -> None:
    assert (case.task().reward_fn is not None) == case.knows_reward


@EACH_DTYPE
@pytest.mark.parametrize("case", [case for case in CASES if case.knows_reward], ids=str)
def test_rewards_are_those_of_the_simulator(case: Case, dtype: torch.dtype) -> None:
    data, task = collect(case), case.task()
    assert task.reward_fn is not None
    reward = task.reward_fn(*data.inputs(dtype))
    assert reward.dtype == dtype
    # The simulator itself sums the squares of actions in float32.
    tolerance = 4.0 * EPS * (1.0 + float(data.reward.abs().max()))
    if dtype == torch.float32 and case.with_positions:
        # Both positions are rounded, and their difference is divided by the time step.
        tolerance += EPS * float(data.next_obs[:, 0].abs().max()) / unwrapped(case).dt
    torch.testing.assert_close(reward, data.reward.to(dtype), rtol=0.0, atol=tolerance)


@EACH_DTYPE
@EACH_CASE
def test_terminations_are_those_of_the_simulator(case: Case, dtype: torch.dtype) -> None:
    data, task = collect(case), case.task()
    assert task.termination_fn is not None
    terminated = task.termination_fn(*data.inputs(dtype))
    assert terminated.dtype == torch.bool
    assert torch.equal(terminated, data.terminated)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "InvertedDoublePendulum-v5", "Walker2d-v5"])
def test_the_episodes_above_have_ends(env_id: str) -> None:
    case = next(case for case in CASES if case.env_id == env_id)
    assert collect(case).terminated.sum() >= 5


@pytest.mark.parametrize("env_id", ["Hopper-v5", "InvertedDoublePendulum-v5", "Walker2d-v5"])
def test_the_episodes_above_have_velocities_that_were_clipped(env_id: str) -> None:
    case = next(case for case in CASES if case.env_id == env_id)
    assert (collect(case).next_obs.abs() == 10.0).any()


@EACH_DTYPE
@pytest.mark.parametrize("case", WITH_HEALTH, ids=str)
def test_random_states_are_as_healthy_as_the_simulator_says(case: Case, dtype: torch.dtype) -> None:
    env, termination_fn = unwrapped(case), case.task().termination_fn
    assert termination_fn is not None
    rng = np.random.default_rng(0)
    height = 2 if case.env_id == "Ant-v5" else 1
    observed, healthy = [], []
    for _ in range(300):
        env.data.qpos[:] = env.init_qpos + rng.normal(0.0, 0.3, env.model.nq)
        env.data.qpos[height] = rng.uniform(0.0, 2.5)
        env.data.qvel[:] = rng.normal(0.0, 20.0, env.model.nv)
        observed.append(env._get_obs())
        healthy.append(bool(env.is_healthy))
    next_obs = torch.as_tensor(np.array(observed)).to(dtype)
    terminated = termination_fn(next_obs, torch.zeros(300, 1), next_obs)
    assert 30 < sum(healthy) < 270
    assert terminated.tolist() == [not well for well in healthy]


@pytest.mark.parametrize("value", [99.0, 100.0, -100.0, 1e20, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("case", WITH_HEALTH, ids=str)
def test_extreme_positions_are_as_healthy_as_the_simulator_says(case: Case, value: float) -> None:
    env, termination_fn = unwrapped(case), case.task().termination_fn
    assert termination_fn is not None
    num_hidden = 0 if case.with_positions else 2 if case.env_id == "Ant-v5" else 1
    for component in range(num_hidden, env.model.nq):
        env.reset(seed=0)
        env.data.qpos[component] = value
        next_obs = torch.as_tensor(env._get_obs())
        terminated = termination_fn(next_obs, torch.zeros(1), next_obs)
        assert terminated.item() is not bool(env.is_healthy), component


@pytest.mark.parametrize("case", WITH_HEALTH, ids=str)
def test_velocities_that_are_nan_are_as_healthy_as_the_simulator_says(case: Case) -> None:
    env, termination_fn = unwrapped(case), case.task().termination_fn
    assert termination_fn is not None
    for component in range(env.model.nv):
        env.reset(seed=0)
        env.data.qvel[component] = np.nan
        next_obs = torch.as_tensor(env._get_obs())
        terminated = termination_fn(next_obs, torch.zeros(1), next_obs)
        assert terminated.item() is not bool(env.is_healthy), component


@EACH_CASE
def test_nan_terminates_and_pays_nan(case: Case) -> None:
    obs = torch.full((7, collect(case).obs.shape[1]), torch.nan)
    action = collect(case).action[:7]
    task = case.task()
    assert task.termination_fn is not None
    assert task.termination_fn(obs, action, obs).tolist() == [case.terminates] * 7
    if task.reward_fn is not None:
        assert task.reward_fn(obs, action, obs).isnan().all()


@EACH_CASE
@pytest.mark.parametrize("leading_shape", [(), (4,), (2, 3, 4)])
def test_any_leading_shape_gives_what_a_loop_gives(
    case: Case, leading_shape: tuple[int, ...]
) -> None:
    num_rows = int(np.prod(leading_shape))
    rows = [tensor[-num_rows:] for tensor in collect(case).inputs(torch.float64)]
    batch = [tensor.reshape(*leading_shape, -1) for tensor in rows]
    task = case.task()
    for function in (task.reward_fn, task.termination_fn):
        if function is not None:
            batched = function(*batch)
            assert batched.shape == leading_shape
            looped = torch.stack([function(*row) for row in zip(*rows, strict=True)])
            torch.testing.assert_close(batched.flatten(), looped, rtol=1e-12, atol=1e-12)


def test_the_double_pendulum_pays_what_its_function_says_but_for_clipping_and_the_rail() -> None:
    data = collect(Case("InvertedDoublePendulum-v5", knows_reward=False, terminates=True))
    reward = inverted_double_pendulum.reward_fn(*data.inputs(torch.float64))
    clipped = (data.next_obs[:, 5:8].abs() == 10.0).any(dim=-1)
    at_the_rail = data.next_obs[:, 8] != 0.0
    is_plain = ~(clipped | at_the_rail)
    assert is_plain.sum() > 50
    torch.testing.assert_close(reward[is_plain], data.reward[is_plain], rtol=0.0, atol=1e-3)
    # Faster falls cost more than can be seen.
    assert (reward - data.reward).max() > 0.01


def test_the_double_pendulum_does_not_grow_with_a_models_sines_and_cosines() -> None:
    obs = collect(Case("InvertedDoublePendulum-v5", knows_reward=False, terminates=True)).next_obs
    longer = obs.clone()
    longer[:, 1:5] *= 1.5
    action = torch.zeros(len(obs), 1)
    reward = inverted_double_pendulum.reward_fn(obs, action, obs)
    torch.testing.assert_close(
        inverted_double_pendulum.reward_fn(longer, action, longer), reward, rtol=1e-9, atol=1e-9
    )
