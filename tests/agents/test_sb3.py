"""Stable-Baselines3's evaluation takes a PETS agent for one of its own."""

from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from mbrl_agents import PETS
from tests.agents.small import assert_identical, small_pets


def make_monitored(env_id: str, length: int) -> Monitor[Any, Any]:
    return Monitor(gym.make(env_id, max_episode_steps=length))


def own_returns(agent: PETS, env: gym.Env[Any, Any], num_episodes: int, seed: int) -> list[float]:
    """Episode after episode; only the first reset has a seed."""
    returns = []
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=seed if episode == 0 else None)
        state, total, ended = None, 0.0, False
        while not ended:
            action, state = agent.predict(obs, state, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            ended = terminated or truncated
        returns.append(total)
    return returns


@pytest.mark.parametrize(("env_id", "length"), [("Pendulum-v1", 7), ("CartPole-v1", 30)])
def test_one_environment(env_id: str, length: int) -> None:
    agent = small_pets(env_id).learn(25)
    before = agent.state_dict()["generator"].clone()
    vec_env = DummyVecEnv([lambda: make_monitored(env_id, length)])
    vec_env.seed(3)
    returns, lengths = evaluate_policy(
        cast(Any, agent), vec_env, n_eval_episodes=3, return_episode_rewards=True
    )
    assert returns == pytest.approx(
        own_returns(agent, gym.make(env_id, max_episode_steps=length), 3, 3)
    )
    assert isinstance(lengths, list)
    assert max(lengths) <= length
    assert_identical(agent.state_dict()["generator"], before)


@pytest.mark.parametrize(("env_id", "length"), [("Pendulum-v1", 7), ("CartPole-v1", 30)])
def test_several_environments_whose_episodes_end_at_different_times(
    env_id: str, length: int
) -> None:
    agent = small_pets(env_id).learn(25)
    vec_env = DummyVecEnv([lambda n=n: make_monitored(env_id, length + n) for n in range(3)])  # type: ignore[misc]
    vec_env.seed(3)
    returns, lengths = evaluate_policy(
        cast(Any, agent),
        vec_env,
        n_eval_episodes=7,
        return_episode_rewards=True,
        deterministic=False,
    )
    assert isinstance(returns, list)
    assert len(returns) == 7
    assert np.isfinite(returns).all()
    assert len(set(lengths)) > 1  # type: ignore[arg-type]


def test_a_plain_environment_is_taken_too() -> None:
    agent = small_pets("CartPole-v1")
    mean, _ = evaluate_policy(cast(Any, agent), make_monitored("CartPole-v1", 5), n_eval_episodes=2)
    assert mean == 5.0
