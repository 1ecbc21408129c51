"""Dyna: an algorithm of Stable-Baselines3 learns in the model after each of its fits."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from mbrl_agents import Callback, Dyna
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.types import Agent
from tests.agents.small import SMALL_MODEL, assert_identical

SMALL_SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "net_arch": [8]},
    "sac": {"learning_starts": 10, "net_arch": [8], "batch_size": 16},
    "td3": {"learning_starts": 10, "net_arch": [8], "batch_size": 16, "action_noise": 0.2},
    "dqn": {"learning_starts": 10, "net_arch": [8], "batch_size": 16},
}


def small_dyna(
    env: gym.Env[Any, Any] | str = "Pendulum-v1", algorithm: str = "ppo", **arguments: Any
) -> Dyna:
    defaults: dict[str, Any] = {
        "model": SMALL_MODEL,
        "learning_starts": 20,
        "model_train_freq": 15,
        "algorithm": {"name": algorithm, **SMALL_SETTINGS.get(algorithm, {})},
        "num_envs": 4,
        "rollout_length": 5,
        "imagined_steps": 32,
    }
    return Dyna(env, **{**defaults, **arguments})


class Fits(Callback):
    def __init__(self) -> None:
        self.metrics: list[Any] = []

    def on_fit(self, agent: Agent, metrics: Any) -> None:
        self.metrics.append((agent.num_timesteps, metrics))


@pytest.mark.parametrize(
    ("algorithm", "env_id"),
    [
        ("ppo", "Pendulum-v1"),
        ("ppo", "CartPole-v1"),
        ("sac", "Pendulum-v1"),
        ("dqn", "CartPole-v1"),
    ],
)
def test_the_algorithm_learns_in_the_model_after_each_fit(algorithm: str, env_id: str) -> None:
    fits = Fits()
    agent = small_dyna(env_id, algorithm)
    before = [parameter.clone() for parameter in agent.algorithm.policy.parameters()]
    agent.learn(40, fits)
    assert [step for step, _ in fits.metrics] == [20, 35]
    assert [metrics["imagination/steps"] for _, metrics in fits.metrics] == [32, 64]
    assert any(name.startswith("train/") for name in fits.metrics[1][1])
    pairs = zip(before, agent.algorithm.policy.parameters(), strict=True)
    assert any(not torch.equal(*pair) for pair in pairs)
    action, state = agent.predict(agent.interaction.obs, deterministic=True)
    assert agent.env.action_space.contains(action) or agent.env.action_space.contains(int(action))
    assert state is None


def test_imagined_episodes_begin_where_the_agent_has_been_and_move_by_the_new_model() -> None:
    agent = small_dyna().learn(40)
    starts = agent.imagined_env.batch._start_obs
    assert torch.equal(starts[:35], torch.tensor(agent.buffer.all().obs)[:35])
    assert len(starts) == 35
    mean = agent.dynamics._members.predict(torch.zeros(2, 1, 4)).mean
    newest = agent.model.members(agent.model.elite_indices).predict(torch.zeros(2, 1, 4)).mean
    assert torch.equal(mean, newest)


@pytest.mark.parametrize("stays", [False, True])
def test_imagined_episodes_can_be_held_to_the_recorded_range(stays: bool) -> None:
    agent = small_dyna(stay_in_range=stays).learn(40)
    assert agent.imagined_env.batch.stay_in_range == stays
    assert (agent.imagined_env.batch.num_left > 0) == stays


def test_recorded_transitions_are_mixed_in_where_asked_for() -> None:
    agent = small_dyna(algorithm="sac", real_data_ratio=0.25).learn(40)
    rewards = agent.real.state_dict()["rewards"][:, 0]
    assert rewards.tolist() == agent.buffer.all().rewards[:35].tolist()
    batch: Any = agent.algorithm.replay_buffer.sample(16)  # type: ignore[attr-defined]
    recorded = torch.tensor(agent.buffer.all().obs)
    from_real = [(recorded == obs).all(dim=1).any().item() for obs in batch.observations[:4]]
    assert from_real == [True] * 4


def test_noise_of_an_algorithm_without_any_is_added_while_learning() -> None:
    agent = small_dyna(algorithm="td3").learn(30)
    quiet = {float(agent.predict(agent.interaction.obs)[0][0]) for _ in range(3)}
    loud = {float(agent._act()) for _ in range(3)}
    assert len(quiet) == 1
    assert len(loud) > 1


def test_the_same_seed_gives_the_same_agent_whatever_others_draw() -> None:
    first = small_dyna(algorithm="dqn", env="CartPole-v1", seed=3).learn(30)
    second = small_dyna(algorithm="dqn", env="CartPole-v1", seed=3)
    for _ in range(30):
        second.learn(1)
        torch.rand(1)
        second.env.action_space.sample()
        np.random.rand()  # noqa: NPY002
    assert_identical(first.state_dict(), second.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "soc"}, "'soc'; allowed: a2c"),
        ({"algorithm": "dqn"}, "'dqn' acts in Discrete spaces"),
        ({"real_data_ratio": 0.5}, "'ppo' is on_policy; allowed: crossq, ddpg, dqn"),
        ({"algorithm": {"name": "ppo", "n_step": 3}}, "did you mean 'n_steps'"),
        (
            {"algorithm": {"name": "sac", "n_steps": 2}, "real_data_ratio": 0.5},
            "unknown key 'n_steps'",
        ),
        ({"num_envs": 0}, "num_envs"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dyna("Pendulum-v1", model=SMALL_MODEL, **arguments)
