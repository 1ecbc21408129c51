"""Simulations beside the environments that they copy: equal to the last bit."""

import threading
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import EzPickle
from gymnasium.wrappers import NormalizeReward, RescaleAction
from numpy.typing import NDArray

from mbrl_agents.simulator import Simulator, Snapshot
from mbrl_bilevel.errors import EnvError

MUJOCO = [
    "Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Pusher-v5", "Reacher-v5", "Swimmer-v5",
    "Walker2d-v5",
]  # fmt: skip
BOUNDS = np.float32([-1.0, 1.0])
"""Of rescaled actions."""
OTHERS = [
    "Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1",
    "mbrl_envs:CartPoleSwingUp-v0", "mbrl_envs:ContinuousCartPole-v0",
]  # fmt: skip


class Recorded(NamedTuple):
    """What happened, and the moment that it began from."""

    moment: Snapshot
    actions: list[Any]
    obs: list[NDArray[Any]]
    rewards: list[float]
    terminated: bool


def record(env: gym.Env[Any, Any], simulator: Simulator, num_steps: int) -> Recorded:
    """Capture the environment, and take random steps, until the episode ends at the latest."""
    moment = simulator.capture(env)
    actions, observed, rewards = [], [], []
    terminated = truncated = False
    while len(actions) < num_steps and not (terminated or truncated):
        actions.append(env.action_space.sample())
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        observed.append(obs.copy())
        rewards.append(float(reward))
    return Recorded(moment, actions, observed, rewards, terminated)


def assert_repeats(simulator: Simulator, recorded: Recorded) -> None:
    simulated = simulator.simulate(recorded.moment, recorded.actions)
    assert np.array_equal(simulated.obs, np.stack(recorded.obs))
    assert np.array_equal(simulated.rewards, recorded.rewards)
    assert simulated.terminated == recorded.terminated
    total = simulator.total_reward(recorded.moment, np.stack(recorded.actions))
    assert total == pytest.approx(sum(recorded.rewards), rel=1e-12)


def started(env: gym.Env[Any, Any], num_steps: int = 0) -> gym.Env[Any, Any]:
    env.reset(seed=3)
    env.action_space.seed(3)
    for _ in range(num_steps):
        env.step(env.action_space.sample())
    return env


@pytest.mark.parametrize("env_id", [*MUJOCO, *OTHERS])
def test_recorded_actions_lead_to_the_recorded_steps(env_id: str) -> None:
    """From within an episode, in any order, and long after the environment has moved on."""
    env = started(gym.make(env_id), num_steps=4)
    simulator = Simulator(env)
    moments = [record(env, simulator, num_steps=5) for _ in range(2)]
    for recorded in (moments[1], moments[0], moments[1]):
        assert recorded.actions
        assert_repeats(simulator, recorded)


def test_an_episode_that_terminates_is_repeated_up_to_its_end() -> None:
    env = started(gym.make("InvertedPendulum-v5"))
    simulator = Simulator(env)
    recorded = record(env, simulator, num_steps=1000)
    assert recorded.terminated
    assert_repeats(simulator, recorded)
    longer = simulator.simulate(recorded.moment, recorded.actions * 2)
    assert len(longer.rewards) == len(recorded.rewards)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Pendulum-v1"])
def test_simulating_leaves_the_environment_as_it_is(env_id: str) -> None:
    def steps(simulate: bool) -> list[NDArray[Any]]:
        env = started(gym.make(env_id))
        simulator = Simulator(env)
        actions = [env.action_space.sample() for _ in range(6)]
        observed = []
        for action in actions:
            if simulate:
                simulator.simulate(simulator.capture(env), actions)
            observed.append(env.step(action)[0].copy())
        return observed

    assert np.array_equal(steps(simulate=True), steps(simulate=False))


def test_time_limits_do_not_end_a_simulation() -> None:
    env = started(gym.make("Pendulum-v1", max_episode_steps=5), num_steps=4)
    simulator = Simulator(env)
    simulated = simulator.simulate(simulator.capture(env), np.zeros((9, 1), np.float32))
    assert len(simulated.rewards) == 9


def test_another_environment_of_the_kind_can_be_captured_and_filmed() -> None:
    simulator = Simulator(gym.make("Pendulum-v1"))
    env = started(gym.make("Pendulum-v1", render_mode="rgb_array"))
    env.render()
    assert_repeats(simulator, record(env, simulator, num_steps=5))
    assert env.render() is not None


def test_another_kind_is_refused() -> None:
    simulator = Simulator(gym.make("Pendulum-v1"))
    with pytest.raises(EnvError, match=r"CartPole-v1 \(CartPoleEnv\) .* Pendulum-v1 \(PendulumEnv"):
        simulator.capture(started(gym.make("CartPole-v1")))


def test_wrappers_that_change_something_are_part_of_the_simulation() -> None:
    env = NormalizeReward(RescaleAction(gym.make("Pendulum-v1"), *BOUNDS))
    started(env, num_steps=3)
    simulator = Simulator(env)
    for recorded in [record(env, simulator, num_steps=4) for _ in range(2)]:
        assert_repeats(simulator, recorded)


class CountingEnv(gym.Env[Any, Any], EzPickle):
    """Walks at random and pays for steps and for pairs of walks: state of all kinds."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self) -> None:
        EzPickle.__init__(self)
        self.visited: list[float] = []
        self.latest = self.visited
        self.noise = {"generators": [np.random.default_rng(0)]}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        self.visited.clear()
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        place = float(action[0]) + self.np_random.normal()
        self.latest.append(place + self.noise["generators"][0].normal())
        return self._obs(), sum(self.visited), False, False, {}

    def _obs(self) -> NDArray[np.float32]:
        return np.array([sum(self.visited), len(self.visited)], np.float32)


def test_all_that_an_environment_keeps_in_attributes_is_repeated() -> None:
    """Lists under two names, generators of its own, and a constructor instead of a deep copy."""
    env = started(CountingEnv(), num_steps=3)
    simulator = Simulator(env)
    for recorded in [record(env, simulator, num_steps=4) for _ in range(2)]:
        assert_repeats(simulator, recorded)


class LockedEnv(CountingEnv):
    """Holds on to something that no copy can have."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_what_cannot_be_copied_is_named() -> None:
    message = r"LockedEnv cannot be simulated: its attribute 'lock' \(lock\) cannot be copied"
    with pytest.raises(EnvError, match=message):
        Simulator(LockedEnv())


class ElsewhereEnv(CountingEnv):
    """Keeps its state where no copy of it has another."""

    places: list[float] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.latest = self.visited = ElsewhereEnv.places

    def step(self, action: Any) -> Any:
        ElsewhereEnv.places.append(float(action[0]))
        return np.array([sum(ElsewhereEnv.places), 0.0], np.float32), 0.0, False, False, {}


def test_an_environment_that_does_not_repeat_itself_is_refused() -> None:
    with pytest.raises(EnvError, match=r"simulation of ElsewhereEnv does not repeat it.*outside"):
        Simulator(ElsewhereEnv())


class BrokenEnv(CountingEnv):
    """Cannot begin."""

    def reset(self, **_: Any) -> Any:
        raise RuntimeError("no such device")


def test_an_environment_whose_copy_fails_is_refused() -> None:
    with pytest.raises(EnvError, match=r"BrokenEnv cannot be simulated: .*no such device"):
        Simulator(BrokenEnv())
