"""Episodes of one step, one at a time and batched; what both environments share."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from mbrl_bilevel.environments import make_env
from mbrl_bilevel.errors import ConfigError
from mbrl_envs.tasks import find_task

GAUSSIAN = "mbrl_envs:GaussianToy-v0"
TABULAR = "mbrl_envs:TabularClassification-v0"
IDS = [GAUSSIAN, TABULAR]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    (GAUSSIAN, {}),
    (GAUSSIAN, {"noise": "correlated", "u": [[2.0, 0.5], [0.5, 1.0]]}),
    (GAUSSIAN, {"noise": "heteroscedastic", "mean": "sine", "dim": 3}),
    (TABULAR, {"dataset": "iris", "u": [1.0, 2.0, 5.0]}),
]


@pytest.mark.parametrize(("env_id", "kwargs"), SETTINGS)
def test_the_batched_version_pays_what_a_plain_loop_pays(
    env_id: str, kwargs: dict[str, Any]
) -> None:
    num_envs = 20
    envs: Any = gym.make_vec(env_id, num_envs=num_envs, **kwargs)
    env: Any = gym.make(env_id, **kwargs).unwrapped
    obs, _ = envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(3):
        old_obs, old_targets = (array.copy() for array in envs._samples)
        np.testing.assert_array_equal(obs, old_obs)
        actions = envs.action_space.sample()
        obs, rewards, terminated, truncated, infos = envs.step(actions)
        for index in range(num_envs):
            env.reset()
            env._sample = (old_obs[index : index + 1], old_targets[index : index + 1])
            last_obs, reward, ended, cut, info = env.step(actions[index])
            assert rewards[index] == pytest.approx(reward, rel=1e-12)
            assert (terminated[index], truncated[index]) == (ended, cut) == (True, False)
            np.testing.assert_array_equal(infos["final_obs"][index], last_obs)
            for key, value in info.items():
                np.testing.assert_array_equal(infos["final_info"][key][index], value)
        # What it returns are the observations of the next samples, not of those.
        assert not np.array_equal(obs, old_obs)


@pytest.mark.parametrize("env_id", IDS)
def test_one_batched_environment_is_the_environment(env_id: str) -> None:
    envs: Any = gym.make_vec(env_id, num_envs=1)
    env: Any = gym.make(env_id)
    batched, single = envs.reset(seed=5)[0], env.reset(seed=5)[0]
    for _ in range(5):
        np.testing.assert_array_equal(batched[0], single)
        action = env.action_space.sample()
        batched, rewards, *_ = envs.step(np.asarray(action)[None])
        assert env.step(action)[1] == rewards[0]
        single = env.reset()[0]


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_has_one_step(env_id: str) -> None:
    env: Any = gym.make(env_id)
    obs, info = env.reset(seed=0)
    assert info == {}
    action = env.action_space.sample()
    last_obs, _, terminated, truncated, _ = env.step(action)
    np.testing.assert_array_equal(last_obs, obs)
    assert (terminated, truncated) == (True, False)
    with pytest.raises(gym.error.ResetNeeded, match="one step"):
        env.step(action)


@pytest.mark.parametrize("env_id", IDS)
def test_what_is_returned_can_be_changed_without_harm(env_id: str) -> None:
    env: Any = gym.make(env_id).unwrapped
    envs: Any = gym.make_vec(env_id, num_envs=2)
    for each in (env, envs):
        obs, _ = each.reset(seed=0)
        before = each._samples[0].copy() if each is envs else each._sample[0].copy()
        obs[:] = 0.0
        after = each._samples[0] if each is envs else each._sample[0]
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    ("env_id", "action", "message"),
    [
        (GAUSSIAN, np.zeros(3), r"shape \[3\] .* of shape \[2\]"),
        (GAUSSIAN, np.array([0.0, np.nan]), "action nan; it must be finite"),
        (GAUSSIAN, np.array(["a", "b"]), "they must be numbers"),
        (TABULAR, 3, "action 3; it must be a class from 0 to 2"),
        (TABULAR, -1, "action -1; it must be a class"),
        (TABULAR, 1.0, "type float64; they must be integers"),
        (TABULAR, np.zeros(1, int), r"shape \[1\]"),
    ],
)
def test_what_is_no_prediction(env_id: str, action: Any, message: str) -> None:
    env: Any = gym.make(env_id).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)
    envs: Any = gym.make_vec(env_id, num_envs=2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(np.stack([np.asarray(action)] * 2))


@pytest.mark.parametrize("env_id", IDS)
def test_misuse_of_the_batched_version(env_id: str) -> None:
    envs: Any = gym.make_vec(env_id, num_envs=2)
    actions = envs.action_space.sample()
    with pytest.raises(ValueError, match=r"call reset\(\)"):
        envs.step(actions)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="1 actions for 2 environments"):
        envs.step(actions[:1])
    with pytest.raises(ValueError, match="allowed: none"):
        envs.reset(options={"row": 1})
    with pytest.raises(ConfigError, match="num_envs=0"):
        gym.make_vec(env_id, num_envs=0)


@pytest.mark.parametrize("env_id", IDS)
def test_the_end_is_known_and_the_reward_is_not(env_id: str) -> None:
    """It depends on the target, which no observation shows."""
    import torch

    task = find_task(gym.make(env_id))
    assert task is not None
    assert task.reward_fn is None
    assert task.termination_fn is not None
    obs = torch.zeros(4, 3, 2)
    assert torch.equal(
        task.termination_fn(obs, torch.zeros(4, 3, 2), obs), torch.ones(4, 3, dtype=torch.bool)
    )


@pytest.mark.parametrize("env_id", IDS)
def test_pictures_show_predictions(env_id: str) -> None:
    env: Any = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(env.action_space.sample())
    after = env.render()
    assert before.shape == after.shape == (400, 400, 3)
    assert before.dtype == np.uint8
    assert not np.array_equal(before, after)


def test_a_picture_of_one_dimension() -> None:
    env: Any = gym.make(GAUSSIAN, dim=1, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(np.array([6.0], np.float32))
    assert not np.array_equal(before, env.render())


def test_text_shows_the_last_prediction() -> None:
    env: Any = gym.make(TABULAR, render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "no prediction yet\n"
    _, reward, _, _, info = env.step(2)
    expected = f"predicted class_2  true class class_{info['label']}  reward {reward:.4g}\n"
    assert env.render() == expected


@pytest.mark.parametrize("env_id", IDS)
def test_render_modes(env_id: str) -> None:
    with pytest.warns(UserWarning, match="without a render mode"):
        assert gym.make(env_id).unwrapped.render() is None


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        (GAUSSIAN, {"u": "best"}, "u='best'; allowed: optimal, identity, trace, covariance"),
        (GAUSSIAN, {"temperature": 0.0}, "temperature=0.0; it must be positive"),
        (TABULAR, {"dataset": "nowhere.csv"}, "dataset file 'nowhere.csv' does not exist"),
    ],
)
def test_a_bad_argument_is_a_fault_of_the_configuration(
    env_id: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        make_env(env_id, kwargs)
    assert "env.kwargs" in str(error.value)
