from collections.abc import Mapping

import gymnasium as gym
import pytest

from mbrl_agents import PETS, Callback, CallbackList
from mbrl_bilevel.types import Agent
from tests.agents.small import small_pets


class Diary(Callback):
    """Notes what it is told; stops training after a step, if asked to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.entries: list[tuple[str, int]] = []
        self.episodes: list[tuple[float, int]] = []

    def on_step(self, agent: Agent) -> bool:
        self.entries.append(("step", agent.num_timesteps))
        return agent.num_timesteps != self.stop_at

    def on_episode_end(self, agent: Agent, episode_return: float, length: int) -> None:
        self.entries.append(("episode", agent.num_timesteps))
        self.episodes.append((episode_return, length))

    def on_fit(self, agent: Agent, metrics: Mapping[str, float]) -> None:
        assert metrics
        self.entries.append(("fit", agent.num_timesteps))


def short_pendulum() -> PETS:
    return small_pets(gym.make("Pendulum-v1", max_episode_steps=12))


def test_each_step_its_fit_and_the_end_of_its_episode_are_told_in_order() -> None:
    diary = Diary()
    agent = short_pendulum().learn(36, diary)
    expected = []
    for t in range(1, 37):
        expected += [("episode", t)] if t % 12 == 0 else []
        expected += [("fit", t)] if t in (20, 35) else []
        expected += [("step", t)]
    assert diary.entries == expected
    rewards = agent.buffer.all().rewards.reshape(3, 12).sum(axis=1)
    assert [episode[0] for episode in diary.episodes] == pytest.approx(rewards.tolist(), rel=1e-5)
    assert [length for _, length in diary.episodes] == [12, 12, 12]


def test_a_callback_stops_training_after_its_step() -> None:
    diary = Diary(stop_at=7)
    agent = short_pendulum().learn(36, diary)
    assert agent.num_timesteps == 7
    assert len(agent.buffer) == 7
    assert agent.learn(3, diary).num_timesteps == 10


def test_a_list_tells_all_of_its_callbacks_even_at_the_end() -> None:
    diaries = [Diary(), Diary(stop_at=25), Diary()]
    agent = short_pendulum().learn(36, CallbackList(diaries))
    assert agent.num_timesteps == 25
    assert diaries[0].entries == diaries[1].entries == diaries[2].entries
    assert diaries[2].entries[-1] == ("step", 25)


def test_the_plain_callback_does_nothing() -> None:
    assert short_pendulum().learn(21, Callback()).num_timesteps == 21
    assert short_pendulum().learn(21, CallbackList([])).num_timesteps == 21
