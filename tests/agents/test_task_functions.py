import logging
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.task_functions import check_against_data, exact_functions
from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_envs.tasks import find_task
from tests.agents.small import SpacesEnv

CODEC = ActionCodec(spaces.Box(-2.0, 2.0, (1,)))


def zeros(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    del obs, action
    return torch.zeros(next_obs.shape[:-1])


@pytest.fixture
def pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


def test_auto_finds_a_known_tasks_functions(pendulum: gym.Env[Any, Any]) -> None:
    task = find_task(pendulum)
    assert task is not None
    found = exact_functions(pendulum, "auto", "auto")
    assert found == (task.reward_fn, task.termination_fn)
    assert all(callable(function) for function in found)


def test_auto_finds_nothing_for_other_environments() -> None:
    for env in (
        gym.make("CartPole-v1"),
        SpacesEnv(spaces.Box(-1, 1, (1,)), spaces.Discrete(2)),
    ):
        assert exact_functions(env, "auto", "auto") == (None, None)


def test_none_and_functions_of_ones_own_are_kept(pendulum: gym.Env[Any, Any]) -> None:
    task = find_task(pendulum)
    assert task is not None
    assert exact_functions(pendulum, None, "auto") == (None, task.termination_fn)
    assert exact_functions(pendulum, zeros, None) == (zeros, None)


def test_a_changed_environment_is_not_the_known_task(
    pendulum: gym.Env[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    env: gym.Env[Any, Any] = gym.wrappers.TransformReward(
        pendulum, lambda reward: 2 * float(reward)
    )
    with caplog.at_level(logging.WARNING):
        assert exact_functions(env, "auto", "auto") == (None, None)
    assert "Pendulum-v1 are not used: the environment is wrapped in" in caplog.text


@pytest.mark.parametrize("name", ["reward_fn", "termination_fn"])
def test_what_is_no_function_is_refused(pendulum: gym.Env[Any, Any], name: str) -> None:
    arguments: dict[str, Any] = {"reward_fn": None, "termination_fn": None, name: "exact"}
    with pytest.raises(TypeError, match=f"{name}='exact'; allowed: a function, 'auto' or None"):
        exact_functions(pendulum, **arguments)


def transitions(num: int = 10) -> Transitions:
    """Rewards 1 + obs + raw action; the third transition terminates."""
    obs = np.linspace(0, 1, num, dtype=np.float32)[:, None]
    actions = np.linspace(-2, 2, num, dtype=np.float32)[:, None]
    terminated = np.arange(num) == 2
    rewards = 1 + obs[:, 0] + actions[:, 0]
    return Transitions(obs, actions, rewards, obs + 1, terminated, np.zeros(num, np.bool_))


def right_reward(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    return next_obs[..., 0] + action[..., 0] + 0 * obs[..., 0]


def right_termination(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    del obs, action
    return (next_obs[..., 0] - 1 - 2 / 9).abs() < 0.01


def test_right_functions_pass(pendulum: gym.Env[Any, Any]) -> None:
    check_against_data(pendulum, CODEC, transitions(), right_reward, right_termination)
    check_against_data(pendulum, CODEC, transitions(), None, None)


def spoilt(value: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        reward = right_reward(obs, action, next_obs)
        reward[4] = reward[4] + value
        return reward

    return reward_fn


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-3.0, "3"), (float("nan"), "nan")])
def test_a_reward_that_is_wrong_once_warns(
    pendulum: gym.Env[Any, Any], value: float, shown: str
) -> None:
    message = f"reward_fn differs from the rewards of Pendulum-v1 by up to {shown}:"
    with pytest.warns(UserWarning, match=message):
        check_against_data(pendulum, CODEC, transitions(), spoilt(value), right_termination)


def test_rounding_does_not_warn(pendulum: gym.Env[Any, Any]) -> None:
    check_against_data(pendulum, CODEC, transitions(), spoilt(1e-4), None)


def test_a_reward_in_features_instead_of_the_environments_units_warns(
    pendulum: gym.Env[Any, Any],
) -> None:
    def in_features(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return right_reward(obs, action / 2, next_obs)

    with pytest.warns(UserWarning, match="by up to 1:"):
        check_against_data(pendulum, CODEC, transitions(), in_features, None)


def test_a_wrong_termination_warns_with_the_count(pendulum: gym.Env[Any, Any]) -> None:
    def early(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return (next_obs[..., 0] < 1.4) & (obs == obs)[..., 0] & (action == action)[..., 0]

    message = "termination_fn is wrong on 3 of 10 transitions of Pendulum-v1; termination_fn=None"
    with pytest.warns(UserWarning, match=message):
        check_against_data(pendulum, CODEC, transitions(), right_reward, early)


def test_discrete_actions_are_compared_as_indices() -> None:
    codec = ActionCodec(spaces.Discrete(3, start=4))
    env = SpacesEnv(spaces.Box(-1, 1, (1,)), codec.space)
    actions = np.array([4, 6, 5], np.int64)
    obs = np.zeros((3, 1), np.float32)
    false = np.zeros(3, np.bool_)
    data = Transitions(obs, actions, actions.astype(np.float32), obs, false, false)
    check_against_data(env, codec, data, lambda _obs, action, _next_obs: action.float(), None)
    with pytest.warns(UserWarning, match="differs from the rewards of SpacesEnv by up to 4"):
        check_against_data(env, codec, data, lambda _obs, action, _next_obs: action - 4, None)
