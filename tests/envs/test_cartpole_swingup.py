"""CartPoleSwingUp-v0 as an environment: the interface, the rules, the pictures."""

import importlib
from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import mbrl_envs
from mbrl_envs.cartpole_swingup import CartPoleSwingUpEnv

ENV_ID = "mbrl_envs:CartPoleSwingUp-v0"
NO_ACTION = np.zeros(1, dtype=np.float32)


@pytest.fixture
def env() -> Iterator[CartPoleSwingUpEnv]:
    env = CartPoleSwingUpEnv()
    env.reset(seed=0)
    yield env
    env.close()


def put(env: CartPoleSwingUpEnv, *, x: float = 0.0, theta: float = 0.0) -> None:
    """Place cart and pole at rest."""
    env._state = np.array([x, 0.0, theta, 0.0])


# Positions and velocities have no natural bound, of which Gymnasium warns.
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity")
def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(gym.make(ENV_ID, disable_env_checker=True).unwrapped)


def test_stable_baselines3_finds_nothing_wrong() -> None:
    check_env_sb3(gym.make(ENV_ID))


def test_importing_twice_registers_once() -> None:
    spec = gym.spec("CartPoleSwingUp-v0")
    importlib.reload(mbrl_envs)
    assert gym.spec("CartPoleSwingUp-v0") is spec
    assert spec.max_episode_steps == 200


def test_the_docstring_has_gymnasiums_sections() -> None:
    doc = CartPoleSwingUpEnv.__doc__ or ""
    sections = [line.strip()[3:] for line in doc.splitlines() if line.strip().startswith("## ")]
    assert sections == [
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    ]


def run_episode(seed: int) -> list[tuple[float, ...]]:
    env = gym.make(ENV_ID)
    obs, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    steps = [tuple(obs)]
    terminated = truncated = False
    while not (terminated or truncated):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        steps.append((*obs, reward, terminated, truncated, info["is_success"]))
    return steps


def test_a_seed_fixes_the_episode() -> None:
    assert run_episode(3) == run_episode(3)
    assert run_episode(3) != run_episode(4)


def test_episodes_start_at_rest_hanging_down_with_noise(env: CartPoleSwingUpEnv) -> None:
    starts = np.array([env.reset()[0] for _ in range(50)])
    assert starts.dtype == np.float32
    x, x_dot, cos, sin, theta_dot = starts.T
    for noisy in (x, x_dot, sin, theta_dot):
        assert np.abs(noisy).max() <= 0.05
        assert noisy.std() > 0.02
    assert cos.max() < -0.998


def test_an_episode_is_truncated_after_200_steps() -> None:
    env = gym.make(ENV_ID)
    env.reset(seed=0)
    ends = [env.step(NO_ACTION)[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(False, True)]


@pytest.mark.parametrize(
    ("x", "theta", "expected"),
    [(0.0, 0.0, 1.0), (0.0, np.pi, 0.0), (1.2, 0.0, 0.875), (-2.4, 0.0, 0.5), (2.41, 0.0, 0.0)],
)
def test_reward(env: CartPoleSwingUpEnv, x: float, theta: float, expected: float) -> None:
    # Both are equilibria, upright an unstable one: without a push the state stays as it is.
    put(env, x=x, theta=theta)
    obs, reward, terminated, _, _ = env.step(NO_ACTION)
    assert obs[0] == pytest.approx(x)
    assert reward == pytest.approx(expected, abs=1e-6)
    assert terminated == (abs(x) > 2.4)


def test_actions_are_clipped_to_the_bounds(env: CartPoleSwingUpEnv) -> None:
    def after(action: float) -> NDArray[np.float32]:
        env.reset(seed=0)
        return env.step(np.array([action], dtype=np.float32))[0]

    np.testing.assert_array_equal(after(5.0), after(1.0))
    np.testing.assert_array_equal(after(-5.0), after(-1.0))
    assert not np.array_equal(after(0.5), after(1.0))


@pytest.mark.parametrize("action", [-1.0, 1.0])
def test_one_push_does_not_lift_the_pole(env: CartPoleSwingUpEnv, action: float) -> None:
    terminated, highest = False, -1.0
    while not terminated:
        obs, _, terminated, _, _ = env.step(np.array([action], dtype=np.float32))
        highest = max(highest, float(obs[2]))
    assert highest < 0.0


def test_success_is_being_upright_after_each_of_the_last_100_steps(
    env: CartPoleSwingUpEnv,
) -> None:
    def successes(num_steps: int) -> list[bool]:
        return [env.step(NO_ACTION)[4]["is_success"] for _ in range(num_steps)]

    put(env)
    assert successes(101) == [False] * 99 + [True] * 2
    put(env, theta=0.4)
    assert successes(1) == [False]
    put(env)
    assert successes(100) == [False] * 99 + [True]
    env.reset()
    put(env)
    assert successes(100) == [False] * 99 + [True]
    put(env, x=3.0)
    assert successes(1) == [False]


def test_rgb_array_shows_the_state() -> None:
    with CartPoleSwingUpEnv(render_mode="rgb_array") as env:
        env.reset(seed=0)
        put(env, x=-1.0)
        left = env.render()
        put(env, x=1.0)
        right = env.render()
    assert left is not None
    assert right is not None
    for frame in (left, right):
        assert frame.shape == (400, 600, 3)
        assert frame.dtype == np.uint8
    # The picture is a mirror image up to the smoothing of edges.
    assert np.abs(left.astype(float) - right[:, ::-1]).mean() < 0.5
    assert np.abs(left.astype(float) - right).mean() > 1.0


def test_human_mode_draws_by_itself_and_returns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    with CartPoleSwingUpEnv(render_mode="human") as env:
        env.reset(seed=0)
        window = pygame.display.get_surface()
        assert window is not None
        assert window.get_size() == (600, 400)
        env.step(NO_ACTION)
        assert env.render() is None
    assert pygame.display.get_surface() is None


def test_rendering_without_a_mode_warns(env: CartPoleSwingUpEnv) -> None:
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None


def test_closing_twice_is_fine() -> None:
    env = CartPoleSwingUpEnv(render_mode="rgb_array")
    env.reset(seed=0)
    env.render()
    env.close()
    env.close()
