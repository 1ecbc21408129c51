"""Observations with irrelevant dimensions: the environment beneath stays what it is."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from mbrl_bilevel.errors import EnvError
from mbrl_envs import Distractors
from mbrl_envs.distractors import DISTRACTED
from mbrl_envs.tasks import find_task
from mbrl_envs.tasks.distractors import of_first_dimensions

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity"),
    pytest.mark.filterwarnings("ignore:.*recommend .*symmetric and normalized"),
    pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version"),
]
every_base = pytest.mark.parametrize(
    ("env_id", "base_id"), [(env_id, base_id) for env_id, (base_id, _) in DISTRACTED.items()]
)


def episode(env: gym.Env[Any, Any], seed: int, steps: int = 40) -> list[tuple[Any, ...]]:
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    seen: list[tuple[Any, ...]] = [(obs,)]
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append((obs, reward, terminated, truncated))
        if terminated or truncated:
            break
    return seen


def appended(env: gym.Env[Any, Any], size: int, seed: int = 3) -> NDArray[Any]:
    """The distractors along an episode, `[T, K]`."""
    return np.stack([obs[size:] for obs, *_ in episode(env, seed)])


@every_base
def test_both_checkers_find_nothing_wrong(env_id: str, base_id: str) -> None:
    del base_id
    env = gym.make(f"mbrl_envs:{env_id}", disable_env_checker=True)
    check_env(env, skip_render_check=True)
    check_env_sb3(env)


@every_base
def test_episodes_are_those_without_distractors(env_id: str, base_id: str) -> None:
    env, base = gym.make(f"mbrl_envs:{env_id}"), gym.make(base_id)
    size = base.observation_space.shape[0]  # type: ignore[index]
    assert env.spec is not None
    assert base.spec is not None
    assert env.spec.max_episode_steps == base.spec.max_episode_steps
    ours, theirs = episode(env, 5), episode(base, 5)
    assert len(ours) == len(theirs)
    for (obs, *rest), (base_obs, *base_rest) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(obs[:size], base_obs)
        assert rest == base_rest


@every_base
def test_the_task_is_that_of_the_dimensions_that_matter(env_id: str, base_id: str) -> None:
    env, base = gym.make(f"mbrl_envs:{env_id}", num_distractors=3), gym.make(base_id)
    task, original = find_task(env), find_task(base)
    assert task is not None
    assert original is not None
    assert original.reward_fn is not None
    assert task.reward_fn is not None
    size = base.observation_space.shape[0]  # type: ignore[index]
    draws = torch.Generator().manual_seed(0)
    obs, next_obs = torch.randn(2, 6, size + 3, generator=draws)
    action = torch.randn(6, *base.action_space.shape, generator=draws)  # type: ignore[misc]
    for one, other in (
        (task.reward_fn, original.reward_fn),
        (task.termination_fn, original.termination_fn),
    ):
        assert one is not None
        assert other is not None
        expected = other(obs[:, :size], action, next_obs[:, :size])
        torch.testing.assert_close(one(obs, action, next_obs), expected)


def test_a_seed_fixes_the_distractors_and_another_changes_them() -> None:
    env = gym.make("mbrl_envs:PendulumDistractors-v0")
    first, again, other = appended(env, 3), appended(env, 3), appended(env, 3, seed=4)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert first.shape == (41, 20)


def test_without_noise_they_are_a_system_of_their_own() -> None:
    env = gym.make("mbrl_envs:PendulumDistractors-v0", num_distractors=5, noise_std=0.0)
    z = appended(env, 3).astype(np.float64)
    matrix = np.random.default_rng(0).standard_normal((5, 5)) / np.sqrt(5)
    np.testing.assert_allclose(z[1:], np.tanh(z[:-1] @ matrix.T), atol=1e-6)


def test_noise_is_new_at_every_step() -> None:
    env = gym.make("mbrl_envs:PendulumDistractors-v0", kind="noise", num_distractors=200)
    z = np.arctanh(appended(env, 3).astype(np.float64))[1:]
    assert z.std() == pytest.approx(1.0, abs=0.05)
    correlation = np.corrcoef(z[1:].ravel(), z[:-1].ravel())[0, 1]
    assert abs(correlation) < 0.05


def test_noisy_observations_have_no_exact_reward() -> None:
    env = gym.make("mbrl_envs:PendulumDistractors-v0", obs_noise=0.1)
    assert find_task(env) is None
    clean, noisy = episode(gym.make("Pendulum-v1"), 2), episode(env, 2)
    difference = np.stack([o[0][:3] - c[0] for o, c in zip(noisy, clean, strict=True)])
    assert difference.std() == pytest.approx(0.1, rel=0.2)
    assert [step[1:] for step in clean] == [step[1:] for step in noisy]


def test_any_environment_can_be_wrapped() -> None:
    env = Distractors(gym.make("MountainCarContinuous-v0"), num_distractors=2)
    assert env.observation_space.shape == (4,)
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_distractors": 0}, "num_distractors=0; it must be at least 1"),
        ({"kind": "pink"}, "kind='pink'; allowed: autonomous, noise"),
        ({"noise_std": -1.0}, "noise_std=-1.0; it must be finite and not negative"),
        ({"obs_noise": float("nan")}, "obs_noise=nan; it must be finite and not negative"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message):
        Distractors(gym.make("Pendulum-v1"), **arguments)


def test_observations_that_are_no_vector_are_refused() -> None:
    with pytest.raises(EnvError, match="not to Discrete"):
        Distractors(gym.make("Taxi-v4"))


def test_nothing_known_stays_nothing() -> None:
    assert of_first_dimensions(None, 3) is None
