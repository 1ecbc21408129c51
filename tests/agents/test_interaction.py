import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_agents.interaction import REWARD_WINDOW, Interaction
from mbrl_bilevel.errors import EnvError
from mbrl_bilevel.runs import derive_seed
from tests.agents.small import assert_identical


class DriftEnv(gym.Env[Any, Any]):
    """Observes (a random walk, the sum of actions); its reset and its steps draw numbers.

    Every episode lasts `length` steps; its start decides how it ends. The one observation array is
    used again and again.
    """

    def __init__(
        self,
        length: int = 5,
        ends: Callable[[float], tuple[bool, bool]] = lambda start: (start > 0, start <= 0),
        bad_obs: tuple[int, int, list[int], float] | None = None,
        bad_reward: tuple[int, int, float] | None = None,
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.length, self.ends = length, ends
        self.bad_obs, self.bad_reward = bad_obs, bad_reward
        self.seeds: list[int | None] = []
        self._obs = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.seeds.append(seed)
        self._start = self.np_random.normal()
        self._obs[:] = self._start, 0.0
        self._step = 0
        self._spoil()
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        self._obs += self.np_random.normal(), action[0]
        reward = float(self._obs.sum())
        if self.bad_reward and self.bad_reward[:2] == (len(self.seeds) - 1, self._step):
            reward = self.bad_reward[2]
        self._spoil()
        terminated, truncated = self.ends(self._start)
        at_end = self._step == self.length
        return self._obs, reward, at_end and terminated, at_end and truncated, {}

    def _spoil(self) -> None:
        if self.bad_obs and self.bad_obs[:2] == (len(self.seeds) - 1, self._step):
            self._obs[self.bad_obs[2]] = self.bad_obs[3]


def action(step: int) -> NDArray[np.float32]:
    return np.array([np.sin(step)], np.float32)


def run(interaction: Interaction, first: int, num_steps: int) -> list[Any]:
    steps = []
    for step in range(first, first + num_steps):
        interaction.begin_if_needed()
        steps.append(vars(interaction.step(action(step))))
    return steps


def test_episodes_start_from_seeds_derived_from_the_runs() -> None:
    env = DriftEnv()
    run(Interaction(env, seed=3), 0, 12)
    assert env.seeds == [derive_seed(3, "episode", k) for k in range(3)]
    other = DriftEnv()
    run(Interaction(other, seed=4), 0, 12)
    assert not set(env.seeds) & set(other.seeds)


def test_an_episode_under_way_is_not_reset() -> None:
    env = DriftEnv()
    interaction = Interaction(env, seed=0)
    run(interaction, 0, 3)
    obs = interaction.obs
    interaction.begin_if_needed()
    assert interaction.obs is obs
    assert len(env.seeds) == 1


def test_a_step_is_the_transition_that_the_environment_made() -> None:
    env, reference = DriftEnv(), DriftEnv()
    interaction = Interaction(env, seed=0)
    obs = reference.reset(seed=derive_seed(0, "episode", 0))[0].copy()
    interaction.begin_if_needed()
    assert not env.seeds[1:]
    for i in range(4):
        next_obs, reward, *_ = reference.step(action(i))
        step = interaction.step(action(i))
        np.testing.assert_array_equal(step.obs, obs)
        np.testing.assert_array_equal(step.next_obs, next_obs)
        assert step.reward == reward
        obs = next_obs.copy()


def test_an_environment_may_use_its_array_again() -> None:
    steps = run(Interaction(DriftEnv(), seed=0), 0, 4)
    for step, following in itertools.pairwise(steps):
        assert not np.array_equal(step["obs"], step["next_obs"])
        np.testing.assert_array_equal(step["next_obs"], following["obs"])


@pytest.mark.parametrize("ends", [(True, False), (False, True), (True, True)])
def test_termination_and_truncation_are_kept_apart(ends: tuple[bool, bool]) -> None:
    interaction = Interaction(DriftEnv(length=3, ends=lambda _: ends), seed=0)
    steps = run(interaction, 0, 6)
    flags = [(step["terminated"], step["truncated"]) for step in steps]
    assert flags == [(False, False), (False, False), ends] * 2
    assert all(type(flag) is bool for pair in flags for flag in pair)
    assert interaction.episode == 2
    assert interaction.is_new_episode


def test_returns_and_lengths_of_ended_episodes_are_recorded() -> None:
    interaction = Interaction(DriftEnv(length=4), seed=0)
    steps = run(interaction, 0, 10)
    assert list(interaction.lengths) == [4, 4]
    rewards = [step["reward"] for step in steps]
    assert list(interaction.returns) == pytest.approx([sum(rewards[:4]), sum(rewards[4:8])])
    assert interaction.episode == 2
    assert not interaction.is_new_episode


def test_only_the_last_episodes_count() -> None:
    interaction = Interaction(DriftEnv(length=1), seed=0)
    steps = run(interaction, 0, REWARD_WINDOW + 3)
    assert list(interaction.returns) == [step["reward"] for step in steps[3:]]
    assert len(interaction.lengths) == REWARD_WINDOW


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"bad_obs": (1, 0, [1], np.nan)},
            r"DriftEnv, episode 1, step 0: reset returned an observation that is not finite "
            r"at index 1: \[.*nan\]",
        ),
        (
            {"bad_obs": (0, 3, [0, 1], np.inf)},
            r"DriftEnv, episode 0, step 2: step returned an observation that is not finite "
            r"at indices 0, 1: \[inf inf\]",
        ),
        (
            {"bad_reward": (1, 2, np.nan)},
            r"DriftEnv, episode 1, step 1: step returned reward nan; it must be finite",
        ),
        (
            {"bad_reward": (0, 1, -np.inf)},
            r"DriftEnv, episode 0, step 0: step returned reward -inf",
        ),
    ],
)
def test_what_is_not_finite_is_refused(settings: dict[str, Any], message: str) -> None:
    interaction = Interaction(DriftEnv(**settings), seed=0)
    with pytest.raises(EnvError, match=message):
        run(interaction, 0, 10)


def test_an_environment_with_an_id_is_named_by_it() -> None:
    env = gym.make("Pendulum-v1", disable_env_checker=True)
    interaction = Interaction(env, seed=0)
    interaction.begin_if_needed()
    env.unwrapped.state = np.array([np.nan, 0.0])  # type: ignore[attr-defined]
    with pytest.raises(EnvError, match=r"^Pendulum-v1, episode 0, step 0: .* indices 0, 1, 2"):
        interaction.step(np.zeros(1, np.float32))


def continue_elsewhere(interaction: Interaction, env: gym.Env[Any, Any]) -> Interaction:
    restored = Interaction(env, seed=0)
    restored.load_state_dict(interaction.state_dict())
    return restored


@pytest.mark.parametrize("cut", range(12))
def test_the_episode_under_way_is_restored_exactly(cut: int) -> None:
    interaction = Interaction(DriftEnv(), seed=0)
    run(interaction, 0, cut)
    restored = continue_elsewhere(interaction, DriftEnv())
    assert_identical(restored.state_dict(), interaction.state_dict())
    assert_identical(run(restored, cut, 9), run(interaction, cut, 9))
    assert_identical(restored.state_dict(), interaction.state_dict())


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "mbrl_envs:CartPoleSwingUp-v0"])
def test_episodes_of_real_environments_are_restored_exactly(env_id: str) -> None:
    env = gym.make(env_id)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(60)]

    def run_real(interaction: Interaction, chosen: list[Any]) -> list[Any]:
        steps = []
        for act in chosen:
            interaction.begin_if_needed()
            steps.append(vars(interaction.step(act)))
        return steps

    interaction = Interaction(env, seed=0)
    run_real(interaction, actions[:31])
    assert not interaction.is_new_episode
    restored = continue_elsewhere(interaction, gym.make(env_id))
    assert_identical(run_real(restored, actions[31:]), run_real(interaction, actions[31:]))
    assert_identical(restored.state_dict(), interaction.state_dict())


def test_what_happened_before_a_restore_is_forgotten() -> None:
    interaction = Interaction(DriftEnv(), seed=0)
    run(interaction, 0, 8)
    used = Interaction(DriftEnv(), seed=0)
    run(used, 3, 14)
    used.load_state_dict(interaction.state_dict())
    assert_identical(used.state_dict(), interaction.state_dict())
    assert_identical(run(used, 8, 9), run(interaction, 8, 9))
    assert_identical(used.state_dict(), interaction.state_dict())


def test_a_state_does_not_change_with_the_interaction_it_came_from() -> None:
    interaction = Interaction(DriftEnv(), seed=0)
    run(interaction, 0, 7)
    state = interaction.state_dict()
    expected = continue_elsewhere(interaction, DriftEnv()).state_dict()
    run(interaction, 7, 6)
    restored = Interaction(DriftEnv(), seed=0)
    restored.load_state_dict(state)
    assert_identical(restored.state_dict(), expected)


class UnseededEnv(DriftEnv):
    """Goes its own way at every reset, whatever the seed."""

    resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        del seed
        UnseededEnv.resets += 1
        return super().reset(seed=UnseededEnv.resets, options=options)


class ShrinkingEnv(DriftEnv):
    """Its second life is shorter."""

    def __init__(self, length: int) -> None:
        super().__init__(length, ends=lambda _: (True, False))


@pytest.mark.parametrize(
    ("before", "after"), [(UnseededEnv(), UnseededEnv()), (ShrinkingEnv(9), ShrinkingEnv(2))]
)
def test_an_environment_that_does_not_repeat_itself_warns_and_goes_on(
    before: DriftEnv, after: DriftEnv
) -> None:
    interaction = Interaction(before, seed=0)
    run(interaction, 0, 9 + 4 if before.length == 9 else 5 + 4)
    assert not interaction.is_new_episode
    state = interaction.state_dict()
    restored = Interaction(after, seed=0)
    with pytest.warns(
        UserWarning, match=f"{type(after).__name__} does not repeat itself under the same seed"
    ):
        restored.load_state_dict(state)
    # The episode that was lost is not counted, nor is its replay.
    assert restored.is_new_episode
    assert restored.episode == 2
    assert list(restored.returns) == list(interaction.returns)
    assert list(restored.lengths) == list(interaction.lengths)
    run(restored, 0, after.length)
    assert restored.lengths[-1] == after.length
    assert restored.episode == 3
