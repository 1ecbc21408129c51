"""With the true dynamics in place of learned ones, nothing may differ from the environment."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mbrl_agents.imagination import LearnedVecEnv
from tests.agents.imagination.known import PENDULUM, TORQUE, TruePendulum, real_pendulums

START = np.array([np.cos(2.5), np.sin(2.5), 0.7], np.float32)
LENGTH = 9
MAX_SPIN = 3.0


def imagined_pendulums(
    starts: NDArray[np.float32], num_envs: int, length: int, max_spin: float = np.inf
) -> LearnedVecEnv:
    return LearnedVecEnv(
        TruePendulum(max_spin),
        starts,
        num_envs=num_envs,
        rollout_length=length,
        observation_space=PENDULUM.observation_space,
        action_space=PENDULUM.action_space,
    )


def put(env: gym.Env[Any, Any], obs: NDArray[np.float32]) -> None:
    """Put Pendulum-v1 where it observes `obs`."""
    env.unwrapped.state = np.array([np.arctan2(obs[1], obs[0]), obs[2]], np.float64)  # type: ignore[attr-defined]


def test_the_physics_are_those_of_the_environment() -> None:
    rng = np.random.default_rng(0)
    env = gym.make("Pendulum-v1")
    obs, _ = env.reset(seed=0)
    for _ in range(200):
        action = rng.uniform(-2.0, 2.0, 1).astype(np.float32)
        put(env, obs)
        next_obs, reward, *_ = env.step(action)
        imagined = TruePendulum().step(
            torch.as_tensor(obs)[None], TORQUE.encode(action[None]), torch.Generator()
        )
        assert imagined.next_obs[0].numpy() == pytest.approx(next_obs, abs=1e-5)
        assert imagined.reward.item() == pytest.approx(float(reward), rel=1e-5)
        obs = next_obs


def brakes(obs: NDArray[np.float32], _: np.random.Generator) -> NDArray[np.float32]:
    return np.clip(-obs[:, 2:], -2.0, 2.0)


def plays_dice(obs: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.uniform(-2.0, 2.0, (len(obs), 1)).astype(np.float32)


@pytest.mark.parametrize("policy", [brakes, plays_dice])
def test_returns_are_those_of_the_environment(
    policy: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]],
) -> None:
    rng = np.random.default_rng(1)
    starts = np.stack([PENDULUM.reset(seed=seed)[0] for seed in range(10)])
    vec_env = imagined_pendulums(starts, num_envs=3, length=200)
    obs: Any = vec_env.reset()
    envs = [gym.make("Pendulum-v1") for _ in obs]
    for env, start in zip(envs, obs, strict=True):
        assert (start == starts).all(axis=1).any()
        env.reset()
        put(env, start)
    returns = np.zeros((2, 3))
    for t in range(200):
        action = policy(obs, rng)
        obs, rewards, dones, infos = vec_env.step(action)
        real = [env.step(a) for env, a in zip(envs, action, strict=True)]
        returns += np.array([rewards, [float(step[1]) for step in real]])
        assert dones.tolist() == [step[3] for step in real] == [t == 199] * 3
    assert returns[0] == pytest.approx(returns[1], rel=1e-3)
    for info, step in zip(infos, real, strict=True):
        assert info["TimeLimit.truncated"] is True
        assert info["terminal_observation"] == pytest.approx(step[0], abs=1e-2)


def test_steps_are_those_of_the_environment_in_a_dummy_vec_env() -> None:
    rng = np.random.default_rng(2)
    imagined: Any = imagined_pendulums(START[None], 4, LENGTH, MAX_SPIN)
    real: Any = real_pendulums(START, 4, LENGTH, MAX_SPIN)
    assert imagined.observation_space == real.observation_space
    assert imagined.action_space == real.action_space
    assert imagined.metadata["render_modes"] == real.metadata["render_modes"]
    assert np.array_equal(imagined.reset(), real.reset())
    ways_to_end = set()
    for _ in range(40):
        action = rng.uniform(-2.0, 2.0, (4, 1)).astype(np.float32)
        *arrays, infos = imagined.step(action)
        *real_arrays, real_infos = real.step(action)
        for array, real_array in zip(arrays, real_arrays, strict=True):
            assert array.dtype == real_array.dtype
            assert np.array_equal(array, real_array)
        for info, real_info in zip(infos, real_infos, strict=True):
            assert info.keys() == real_info.keys()
            assert info["TimeLimit.truncated"] is real_info["TimeLimit.truncated"]
            if "terminal_observation" in info:
                assert np.array_equal(
                    info["terminal_observation"], real_info["terminal_observation"]
                )
                ways_to_end.add(info["TimeLimit.truncated"])
    assert ways_to_end == {True, False}


def small_sac(env: VecEnv) -> BaseAlgorithm:
    return SAC("MlpPolicy", env, learning_starts=40, batch_size=16, seed=3, policy_kwargs=small())


def small_ppo(env: VecEnv) -> BaseAlgorithm:
    return PPO(
        "MlpPolicy", env, n_steps=20, batch_size=20, n_epochs=2, seed=3, policy_kwargs=small()
    )


def small() -> dict[str, Any]:
    """A dictionary of its own each time: SAC writes into it."""
    return {"net_arch": [8]}


@pytest.mark.parametrize("make", [small_sac, small_ppo])
def test_policies_learn_what_they_learn_in_the_environment(
    make: Callable[[VecEnv], BaseAlgorithm],
) -> None:
    imagined = make(imagined_pendulums(START[None], 2, LENGTH, MAX_SPIN)).learn(120)
    real = make(real_pendulums(START, 2, LENGTH, MAX_SPIN)).learn(120)
    weights, real_weights = imagined.policy.state_dict(), real.policy.state_dict()
    fresh = make(real_pendulums(START, 2, LENGTH)).policy.state_dict()
    assert not all(torch.equal(weights[name], fresh[name]) for name in weights)
    for name in weights:
        assert torch.equal(weights[name], real_weights[name]), name
