from collections.abc import Callable
from typing import Any, Self

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.errors import ConfigError, EnvError
from mbrl_bilevel.evaluation import Episode, evaluate_episodes, summarise


class CountdownEnv(gym.Env[NDArray[np.float64], Any]):
    """Lasts 2 + seed % 4 steps; observes (seed, step), rewards 0.5, and can go wrong."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - as in Gymnasium

    def __init__(
        self,
        render_mode: str | None = None,
        bad_obs_step: int | None = None,
        bad_reward_step: int | None = None,
        observation_space: spaces.Space[Any] | None = None,
        frame: Any = None,
    ) -> None:
        self.render_mode = render_mode
        self.observation_space = observation_space or spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._bad_obs_step = bad_obs_step
        self._bad_reward_step = bad_reward_step
        self._frame = np.zeros((4, 6, 3), np.uint8) if frame is None else frame
        self._obs = np.zeros(2)
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        assert seed is not None
        self._obs[:] = seed, 0
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._obs[1] += 1  # in place: the evaluation must not keep a reference
        seed, step = self._obs.astype(int)
        if step == self._bad_obs_step:
            self._obs[1] = np.nan
        reward = np.inf if step == self._bad_reward_step else 0.5
        ends = step == 2 + seed % 4
        return self._obs, reward, ends, ends and seed == 0, {"is_success": seed == 1}

    def render(self) -> Any:
        return self._frame

    def close(self) -> None:
        self.closed = True


class Maker:
    """A `make_env` that remembers what it made."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.envs: list[CountdownEnv] = []

    def __call__(self, render_mode: str | None) -> gym.Env[Any, Any]:
        self.envs.append(CountdownEnv(render_mode, **self.settings))
        return self.envs[-1]


class Rows:
    """The state of `RowAgent`: which row of the first batch each episode is."""

    def __init__(self, seeds: NDArray[np.float64]) -> None:
        self.seeds = seeds

    def select(self, indices: Tensor) -> Self:
        return type(self)(self.seeds[indices.numpy()])


class RowAgent:
    """Checks that its state and the observations stay aligned; acts by the observation."""

    def __init__(self, to_state: Callable[[NDArray[np.float64]], Any] = Rows) -> None:
        self.to_state = to_state
        self.batch_sizes: list[int] = []
        self.episode_starts: list[list[bool]] = []

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.generic], Any]:
        assert deterministic
        self.batch_sizes.append(len(observation))
        self.episode_starts.append(episode_start.tolist())
        if state is None:
            state = self.to_state(observation[:, 0].copy())
        elif isinstance(state, Rows):
            np.testing.assert_array_equal(state.seeds, observation[:, 0])
        elif isinstance(state, tuple):
            np.testing.assert_array_equal(state[0][0], observation[:, 0])
        return np.sin(observation.sum(axis=1, keepdims=True)).astype(np.float32), state


class PendulumAgent:
    """A linear policy without state."""

    def predict(
        self,
        observation: Any,
        state: Any = None,  # noqa: ARG002 - the signature of Predictor
        episode_start: Any = None,  # noqa: ARG002
        deterministic: bool = False,  # noqa: ARG002
    ) -> tuple[NDArray[np.generic], Any]:
        return np.clip(observation @ np.array([[0.0], [-2.0], [-0.5]], np.float32), -2, 2), None


def make_pendulum(render_mode: str | None) -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1", render_mode=render_mode, max_episode_steps=20)


def assert_same(one: list[Episode], other: list[Episode]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.obs, b.obs)
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert (a.terminated, a.truncated) == (b.terminated, b.truncated)


def test_lockstep_equals_a_plain_loop() -> None:
    agent = PendulumAgent()
    episodes = evaluate_episodes(agent, make_pendulum, 3, seed=5)
    for i, episode in enumerate(episodes):
        env = make_pendulum(None)
        obs, _ = env.reset(seed=5 + i)
        all_obs, rewards, truncated = [obs], [], False
        while not truncated:
            action, _ = agent.predict(obs[None])
            obs, reward, terminated, truncated, _ = env.step(action[0])
            assert not terminated
            all_obs.append(obs)
            rewards.append(float(reward))
        env.close()
        np.testing.assert_allclose(episode.obs, np.stack(all_obs), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(episode.rewards, rewards, rtol=1e-5, atol=1e-6)
        assert episode.rewards.dtype == np.float64
        assert episode.obs.dtype == obs.dtype
        assert (episode.length, episode.terminated, episode.truncated) == (20, False, True)
        assert episode.total_reward == pytest.approx(sum(rewards), rel=1e-5)


@pytest.mark.parametrize("max_parallel", [1, 3, 4, 32])
def test_max_parallel_does_not_change_the_episodes(max_parallel: int) -> None:
    reference = evaluate_episodes(RowAgent(), Maker(), 7, seed=0, max_parallel=7)
    episodes = evaluate_episodes(RowAgent(), Maker(), 7, seed=0, max_parallel=max_parallel)
    assert_same(episodes, reference)
    assert [episode.length for episode in episodes] == [2, 3, 4, 5, 2, 3, 4]
    assert [episode.obs[0].tolist() for episode in episodes] == [[i, 0] for i in range(7)]


def test_finished_episodes_leave_the_batch() -> None:
    agent = RowAgent()
    evaluate_episodes(agent, Maker(), 6, seed=0, max_parallel=4)  # lengths 2, 3, 4, 5; 2, 3
    assert agent.batch_sizes == [4, 4, 3, 2, 1, 2, 2, 1]
    starts = [all(starts) for starts in agent.episode_starts]
    assert starts == [True, False, False, False, False, True, False, False]
    assert not any(any(flags) for flags in agent.episode_starts[1:5])


def test_state_is_selected_from_the_current_batch_and_only_when_it_shrinks() -> None:
    calls: list[list[int]] = []

    class Recording(Rows):
        def select(self, indices: Tensor) -> Self:
            calls.append(indices.tolist())
            return super().select(indices)

    evaluate_episodes(RowAgent(Recording), Maker(), 5, seed=0)  # lengths 2, 3, 4, 5, 2
    assert calls == [[1, 2, 3], [1, 2], [1]]


def test_recurrent_state_is_selected_along_its_second_axis() -> None:
    agent = RowAgent(lambda seeds: (np.stack([seeds, seeds]),))
    assert [e.length for e in evaluate_episodes(agent, Maker(), 3, seed=0)] == [2, 3, 4]


def test_unknown_state_is_an_error() -> None:
    agent = RowAgent(lambda seeds: {"seeds": seeds})
    with pytest.raises(TypeError, match=r"select\(indices\).* got dict"):
        evaluate_episodes(agent, Maker(), 2, seed=0)


def test_one_action_per_observation_is_required() -> None:
    class Forgetful(RowAgent):
        def predict(self, *args: Any, **kwargs: Any) -> tuple[NDArray[np.generic], Any]:
            actions, state = super().predict(*args, **kwargs)
            return actions[:1], state

    with pytest.raises(ValueError, match=r"Forgetful.* 2 observations, got .*\(1, 1\)"):
        evaluate_episodes(Forgetful(), Maker(), 2, seed=0)


def test_discrete_actions() -> None:
    class Alternating(PendulumAgent):
        def predict(self, observation: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:  # noqa: ARG002
            return (observation[:, 2] < 0).astype(np.int64), None

    episodes = evaluate_episodes(
        Alternating(), lambda mode: gym.make("CartPole-v1", render_mode=mode), 2, seed=0
    )
    for episode in episodes:
        assert episode.actions.shape == (episode.length,)
        assert episode.obs.shape == (episode.length + 1, 4)
        assert episode.terminated


def test_only_the_last_episode_is_recorded() -> None:
    make_env = Maker()
    episodes = evaluate_episodes(RowAgent(), make_env, 4, seed=0, record_last=True, max_parallel=3)
    assert [env.render_mode for env in make_env.envs] == [None, None, None, "rgb_array"]
    assert [len(episode.frames) for episode in episodes] == [0, 0, 0, episodes[-1].length + 1]
    assert episodes[-1].frames[0].shape == (4, 6, 3)


def test_pendulum_is_recorded() -> None:
    episodes = evaluate_episodes(PendulumAgent(), make_pendulum, 1, seed=0, record_last=True)
    frames = episodes[0].frames
    assert len(frames) == 21
    assert frames[0].dtype == np.uint8
    assert (frames[0] != frames[-1]).any()


def test_frame_of_a_wrong_type_is_an_error() -> None:
    make_env = Maker(frame=np.zeros((4, 6), np.float32))
    with pytest.raises(EnvError, match=r"uint8 .*, got float32 \(4, 6\)"):
        evaluate_episodes(RowAgent(), make_env, 1, seed=0, record_last=True)


def test_callback_gets_each_episode_as_it_ends() -> None:
    lengths: list[int] = []
    evaluate_episodes(
        RowAgent(),
        Maker(),
        5,
        seed=2,
        max_parallel=5,
        on_episode=lambda episode: lengths.append(episode.length),
    )
    assert lengths == [2, 3, 4, 4, 5]


def test_not_finite_observation_names_its_place() -> None:
    make_env = Maker(bad_obs_step=3)
    with pytest.raises(EnvError, match="CountdownEnv, episode 1, step 3: observation entry 1 is n"):
        evaluate_episodes(RowAgent(), make_env, 3, seed=0)
    assert len(make_env.envs) == 3
    assert all(env.closed for env in make_env.envs)


def test_not_finite_reward_names_its_place() -> None:
    with pytest.raises(EnvError, match="episode 0, step 2: the reward is inf"):
        evaluate_episodes(RowAgent(), Maker(bad_reward_step=2), 3, seed=0)


def test_registered_environments_are_named_by_their_id() -> None:
    class Broken(gym.ObservationWrapper[Any, Any, Any]):
        def observation(self, observation: Any) -> Any:
            return np.full_like(observation, np.inf)

    with pytest.raises(EnvError, match="Pendulum-v1, episode 0, step 0: observation entry 0 is i"):
        evaluate_episodes(PendulumAgent(), lambda mode: Broken(make_pendulum(mode)), 1, seed=0)


def test_only_box_and_discrete_observations() -> None:
    make_env = Maker(observation_space=spaces.MultiBinary(3))
    message = r"observation space is MultiBinary\(3\), only Box and Discrete"
    with pytest.raises(EnvError, match=message):
        evaluate_episodes(RowAgent(), make_env, 1, seed=0)
    assert make_env.envs[0].closed


def test_all_environments_are_closed() -> None:
    make_env = Maker()
    evaluate_episodes(RowAgent(), make_env, 5, seed=0, max_parallel=2)
    assert [env.closed for env in make_env.envs] == [True] * 5


@pytest.mark.parametrize("name", ["num_episodes", "max_parallel"])
def test_counts_must_be_positive(name: str) -> None:
    counts: dict[str, Any] = {"num_episodes": 1, "max_parallel": 1} | {name: 0}
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
        evaluate_episodes(RowAgent(), Maker(), seed=0, **counts)


def test_summary() -> None:
    episodes = evaluate_episodes(RowAgent(), Maker(), 2, seed=0)  # returns 1.0 and 1.5
    assert summarise(episodes) == {
        "eval_return_mean": 1.25,
        "eval_return_std": 0.25,
        "eval_episodes": 2,
        "eval_length_mean": 2.5,
        "success_rate": 0.5,
    }


def test_success_rate_needs_every_episode_to_tell() -> None:
    episodes = evaluate_episodes(RowAgent(), Maker(), 2, seed=0)
    episodes[0].info.clear()
    assert "success_rate" not in summarise(episodes)


def test_summary_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        summarise([])
