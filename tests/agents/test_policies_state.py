"""States of Stable-Baselines3's algorithms: what comes back goes on as if it had never stopped."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from mbrl_agents.policies import (
    OwnRandomness,
    algorithm_state,
    load_algorithm_state,
    make_algorithm,
)
from mbrl_bilevel.runs import load_checkpoint, save_checkpoint
from tests.agents.small import assert_identical, differ

ALGORITHMS: list[tuple[str, str, dict[str, Any]]] = [
    ("a2c", "CartPole-v1", {}),
    ("ddpg", "Pendulum-v1", {"action_noise": 0.1, "learning_starts": 10}),
    ("dqn", "CartPole-v1", {"learning_starts": 10, "target_update_interval": 7}),
    ("ppo", "Pendulum-v1", {"n_steps": 16, "batch_size": 8, "use_sde": True}),
    ("sac", "Pendulum-v1", {"learning_starts": 10}),
    ("sac", "Pendulum-v1", {"learning_starts": 10, "use_sde": True, "ent_coef": 0.1}),
    ("sac", "Pendulum-v1", {"learning_starts": 10, "buffer_size": 20, "n_steps": 3}),
    ("td3", "Pendulum-v1", {"learning_starts": 10}),
]


def make(name: str, env_id: str, settings: dict[str, Any]) -> BaseAlgorithm:
    return make_algorithm(name, gym.make(env_id), {"net_arch": [8], **settings}, 0, "cpu")


def learn(algorithm: BaseAlgorithm, randomness: OwnRandomness, env_id: str) -> None:
    algorithm.set_env(gym.make(env_id))
    assert algorithm.env is not None
    algorithm.env.seed(4)
    with randomness.use():
        algorithm.learn(32, reset_num_timesteps=False)


@pytest.mark.parametrize(("name", "env_id", "settings"), ALGORITHMS)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(
    tmp_path: Path, name: str, env_id: str, settings: dict[str, Any]
) -> None:
    first, randomness = make(name, env_id, settings), OwnRandomness(1)
    learn(first, randomness, env_id)
    stored = {"algorithm": algorithm_state(first), "randomness": randomness.state_dict()}
    save_checkpoint(tmp_path / "stored", stored)
    loaded = load_checkpoint(tmp_path / "stored")

    second, other_randomness = make(name, env_id, settings), OwnRandomness(2)
    torch.rand(5)
    load_algorithm_state(second, loaded["algorithm"])
    other_randomness.load_state_dict(loaded["randomness"])
    assert_identical(algorithm_state(second), algorithm_state(first))
    learn(first, randomness, env_id)
    learn(second, other_randomness, env_id)
    assert_identical(algorithm_state(second), algorithm_state(first))
    assert differ(loaded["algorithm"]["parameters"], algorithm_state(first)["parameters"])
    assert second.num_timesteps >= 64


def test_a_state_is_a_copy_and_is_copied() -> None:
    algorithm, randomness = make("sac", "Pendulum-v1", {"learning_starts": 10}), OwnRandomness(1)
    learn(algorithm, randomness, "Pendulum-v1")
    state = algorithm_state(algorithm)
    first = state["parameters"]["actor.optimizer"]["state"][0]["exp_avg"].clone()
    load_algorithm_state(algorithm, state)
    learn(algorithm, randomness, "Pendulum-v1")
    assert torch.equal(state["parameters"]["actor.optimizer"]["state"][0]["exp_avg"], first)


def test_other_networks_are_refused() -> None:
    state = algorithm_state(make("sac", "Pendulum-v1", {}))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_algorithm_state(make("sac", "Pendulum-v1", {"net_arch": [9]}), state)


def draw() -> tuple[float, float]:
    return torch.rand(()).item(), float(np.random.rand())  # noqa: NPY002


def test_own_randomness_goes_on_where_it_stopped_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    outside = [draw(), draw()]
    one_go, in_parts = OwnRandomness(1), OwnRandomness(1)
    with one_go.use():
        inside = [draw(), draw()]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    seen = []
    for expected in outside:
        with in_parts.use():
            seen.append(draw())
        assert draw() == expected
    assert seen == inside
    assert inside[0] != inside[1]
    assert inside[0] != outside[0]


def test_own_randomness_is_put_back_after_an_error() -> None:
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    with pytest.raises(ValueError, match="broken"), OwnRandomness(1).use():
        raise ValueError("broken")
    assert torch.rand(()) == expected
