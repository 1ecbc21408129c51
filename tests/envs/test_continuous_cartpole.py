"""ContinuousCartPole-v0 as an environment: Gymnasium's CartPole-v1, but for the action."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from mbrl_envs.cartpole_swingup import CartPoleSwingUpEnv
from mbrl_envs.continuous_cartpole import ContinuousCartPoleEnv

ENV_ID = "mbrl_envs:ContinuousCartPole-v0"
NO_ACTION = np.zeros(1, dtype=np.float32)


@pytest.fixture
def env() -> Iterator[ContinuousCartPoleEnv]:
    env = ContinuousCartPoleEnv()
    env.reset(seed=0)
    yield env
    env.close()


# Velocities have no natural bound, of which Gymnasium warns, also for its own CartPole-v1.
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity")
def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(gym.make(ENV_ID, disable_env_checker=True).unwrapped)


def test_stable_baselines3_finds_nothing_wrong() -> None:
    check_env_sb3(gym.make(ENV_ID))


def test_the_docstring_has_gymnasiums_sections() -> None:
    def sections(doc: str | None) -> list[str]:
        return [line.strip() for line in (doc or "").splitlines() if line.strip().startswith("##")]

    assert sections(ContinuousCartPoleEnv.__doc__) == sections(CartPoleSwingUpEnv.__doc__)


@pytest.mark.parametrize("seed", range(10))
def test_full_forces_give_gymnasiums_episodes(seed: int) -> None:
    original: Any = CartPoleEnv()
    ours = ContinuousCartPoleEnv()
    obs, _ = original.reset(seed=seed)
    our_obs, _ = ours.reset(seed=seed)
    np.testing.assert_array_equal(our_obs, obs)
    rng = np.random.default_rng(seed)
    terminated, num_steps = False, 0
    while not terminated:
        direction = int(rng.integers(2))
        obs, reward, terminated, _, _ = original.step(direction)
        action = np.array([2 * direction - 1], dtype=np.float32)
        our_obs, our_reward, our_terminated, _, _ = ours.step(action)
        np.testing.assert_allclose(our_obs, obs, rtol=1e-6)
        assert our_obs.dtype == np.float32
        assert (our_reward, our_terminated) == (reward, terminated)
        num_steps += 1
    assert num_steps > 5


def test_spaces_are_gymnasiums_but_for_the_action() -> None:
    original, ours = gym.make("CartPole-v1"), gym.make(ENV_ID)
    assert ours.observation_space == original.observation_space
    assert ours.action_space == gym.spaces.Box(-1.0, 1.0, (1,), np.float32)


def test_the_force_grows_with_the_action(env: ContinuousCartPoleEnv) -> None:
    def velocity_after(action: float) -> float:
        env._state = np.zeros(4)
        return float(env.step(np.array([action], dtype=np.float32))[0][1])

    full = velocity_after(1.0)
    assert full > 0.0
    assert velocity_after(-1.0) == pytest.approx(-full)
    assert velocity_after(0.25) == pytest.approx(0.25 * full)
    assert velocity_after(5.0) == full
    assert velocity_after(-5.0) == -full


@pytest.mark.parametrize(
    ("x", "theta", "ends"),
    [
        (2.39, 0.0, False),
        (2.41, 0.0, True),
        (-2.41, 0.0, True),
        (0.0, np.radians(11.9), False),
        (0.0, np.radians(12.1), True),
        (0.0, np.radians(-12.1), True),
    ],
)
def test_ends(env: ContinuousCartPoleEnv, x: float, theta: float, ends: bool) -> None:
    env._state = np.array([x, 0.0, theta, 0.0])
    _, reward, terminated, _, _ = env.step(NO_ACTION)
    assert terminated is ends
    assert reward == 1.0


def test_an_episode_is_truncated_after_200_steps() -> None:
    env = gym.make(ENV_ID)
    env.reset(seed=0)
    ends = []
    for _ in range(200):
        assert isinstance(env.unwrapped, ContinuousCartPoleEnv)
        env.unwrapped._state = np.zeros(4)
        ends.append(env.step(NO_ACTION)[2:4])
    assert ends == [(False, False)] * 199 + [(False, True)]


def test_pictures_show_the_state_and_no_goal() -> None:
    with ContinuousCartPoleEnv(render_mode="rgb_array") as env:
        env.reset(seed=0)
        env._state = np.array([-1.0, 0.0, 0.1, 0.0])
        left = env.render()
        env._state = np.array([1.0, 0.0, -0.1, 0.0])
        right = env.render()
    assert left is not None
    assert right is not None
    for frame in (left, right):
        assert frame.shape == (400, 600, 3)
        assert frame.dtype == np.uint8
        # Where the swing-up has its goal there is background, of one colour.
        assert frame[60:150, 290:310].std(axis=(0, 1)).max() == 0.0
    assert np.abs(left.astype(float) - right[:, ::-1]).mean() < 0.5
    assert np.abs(left.astype(float) - right).mean() > 1.0


def test_human_mode_draws_by_itself_and_returns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    with ContinuousCartPoleEnv(render_mode="human") as env:
        env.reset(seed=0)
        assert pygame.display.get_surface() is not None
        env.step(NO_ACTION)
        assert env.render() is None
    assert pygame.display.get_surface() is None
