"""The terminal value against discounted returns that are known."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_agents.planning import Imagined, TerminalValue, TerminalValueConfig
from mbrl_bilevel.data import Transitions
from tests.agents.small import assert_identical, small_pets

DISCOUNT = 0.8


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(**settings: float) -> TerminalValue:
    defaults = {"discount": DISCOUNT, "num_rounds": 30, "num_updates": 20, "batch_size": 32}
    fast = {**defaults, "lr": 5e-3, "improvement": 0}
    config = TerminalValueConfig.model_validate({**fast, **settings})
    return TerminalValue(1, config, generator())


def no_model(*_: object) -> Imagined:
    raise AssertionError("recorded actions need no model")


def safe_model(obs: Tensor, num_actions: int, generator: torch.Generator) -> Imagined:
    """Two models of K actions: the first stays where it is and pays one, the others end."""
    del generator
    shape = (2, num_actions, len(obs))
    ends = torch.ones(shape, dtype=torch.bool)
    ends[:, 0] = False
    return Imagined((~ends).float(), obs.expand(2, num_actions, -1, -1), ends)


class Corridor:
    """Two models of a walk in which each step pays one, and the one to `length` ends it.

    The first of K actions goes on, or, with `rest`, stays; the others go on. Visited states are
    kept in `visited`.
    """

    def __init__(self, length: int, *, terminates: bool = True, rest: bool = False) -> None:
        self.length, self.terminates, self.rest = length, terminates, rest
        self.visited: set[float] = set()

    def __call__(self, obs: Tensor, num_actions: int, generator: torch.Generator) -> Imagined:
        del generator
        self.visited.update(obs[:, 0].tolist())
        next_obs = (obs + 1).expand(2, num_actions, -1, -1).clone()
        if self.rest:
            next_obs[:, 0] = obs
        ended = (next_obs[..., 0] >= self.length) & self.terminates
        return Imagined(torch.ones_like(ended, dtype=torch.float32), next_obs, ended)


def corridor(length: int, *, terminates: bool) -> Transitions:
    """Ten walks from 0 to `length`, a reward of one a step; the last step ends the episode."""
    start = np.tile(np.arange(length, dtype=np.float32)[:, None], (10, 1))
    last = start[:, 0] == length - 1
    ended = np.zeros_like(last)
    return Transitions(
        obs=start,
        actions=np.zeros_like(start),
        rewards=np.ones(len(start), np.float32),
        next_obs=start + 1,
        terminated=last if terminates else ended,
        truncated=ended if terminates else last,
    )


def test_nothing_is_worth_anything_before_the_first_fit() -> None:
    assert make()(torch.randn(3, 2, 1, generator=generator())).tolist() == [[0.0, 0.0]] * 3


def test_a_terminated_episode_is_worth_the_rewards_up_to_its_end() -> None:
    value, length = make(), 6
    value.fit(corridor(length, terminates=True), no_model, generator())
    remaining = length - torch.arange(length)
    expected = (1 - DISCOUNT**remaining) / (1 - DISCOUNT)
    found = value(torch.arange(length, dtype=torch.float32)[:, None])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.15)


def test_a_truncated_episode_is_worth_what_would_have_followed() -> None:
    value, length = make(), 6
    value.fit(corridor(length, terminates=False), no_model, generator())
    found = value(torch.arange(length, dtype=torch.float32)[:, None])
    torch.testing.assert_close(found, torch.full((6,), 1 / (1 - DISCOUNT)), rtol=0, atol=0.15)


@pytest.mark.parametrize("improvement", [0.5, 1.0])
def test_a_better_action_that_the_model_knows_makes_a_state_worth_more(improvement: float) -> None:
    """All recorded steps end at once and pay one; the model knows how to stay for ever."""
    value = make(improvement=improvement)
    value.fit(corridor(1, terminates=True), safe_model, generator())
    # v = 1 + improvement * discount * v
    expected = 1 / (1 - improvement * DISCOUNT)
    assert value(torch.zeros(1, 1)).item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_where_the_model_was_surprised_it_is_not_believed(share: float) -> None:
    """Of the same step, some records are of the kind that the model did not expect."""
    value, recorded = make(improvement=1.0), corridor(1, terminates=True)
    surprising = torch.arange(len(recorded)) < share * len(recorded)
    value.fit(recorded, safe_model, generator(), surprising)
    # v = 1 + P(believed) * discount * v
    expected = 1 / (1 - (1 - share) * DISCOUNT)
    assert value(torch.zeros(1, 1)).item() == pytest.approx(expected, abs=0.1)


def test_an_agent_is_surprised_by_what_is_far_from_its_predictions() -> None:
    agent = small_pets().learn(40)
    recorded = agent.buffer.all()
    mean, variance = agent.predict_next_obs(recorded.obs, recorded.actions)
    std = np.sqrt(variance.mean(axis=0) + mean.var(axis=0))
    near, far = mean.mean(axis=0) + 4 * std, mean.mean(axis=0)
    far[::2, 1] -= 6 * std[::2, 1]
    surprised = agent._surprising(dataclasses.replace(recorded, next_obs=far.astype(np.float32)))
    assert surprised.tolist() == [row % 2 == 0 for row in range(40)]
    assert not agent._surprising(dataclasses.replace(recorded, next_obs=near)).any()


def from_its_start(length: int) -> Transitions:
    """The corridor's walks, of which only the first step was recorded."""
    walks = corridor(length, terminates=True)
    first = walks.obs[:, 0] == 0
    return Transitions(**{name: column[first] for name, column in vars(walks).items()})


@pytest.mark.parametrize("improvement", [0.0, 0.5, 1.0])
def test_walkers_take_the_best_action_as_often_as_is_said(improvement: float) -> None:
    """One of four actions stays for ever, the others end at once; all pay one."""
    value = make(
        improvement=improvement, num_walkers=64, num_states=1, num_rounds=60, num_actions=4
    )
    value.fit(corridor(1, terminates=True), Corridor(1, rest=True), generator())
    # v = 1 + P(stay) * discount * v
    stays = improvement + (1 - improvement) / 4
    expected = 1 / (1 - stays * DISCOUNT)
    assert value(torch.zeros(1, 1)).item() == pytest.approx(expected, abs=0.1)


def test_walkers_come_to_states_that_no_episode_has_met() -> None:
    length, walking, staying = 6, Corridor(6), Corridor(6)
    value = make(num_walkers=64, num_states=1, num_rounds=120, improvement=0.5)
    value.fit(from_its_start(length), walking, generator())
    assert walking.visited == set(range(length))
    remaining = length - torch.arange(length)
    found = value(torch.arange(length, dtype=torch.float32)[:, None])
    expected = (1 - DISCOUNT**remaining) / (1 - DISCOUNT)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.3)
    make(num_rounds=60, improvement=0.5).fit(from_its_start(length), staying, generator())
    assert staying.visited == {0.0}


def test_walkers_leave_a_place_that_is_not_finite() -> None:
    class Runaway(Corridor):
        def __call__(self, *arguments: Any) -> Imagined:
            found = super().__call__(*arguments)
            return Imagined(found.rewards, found.next_obs * torch.inf, found.terminated)

    model = Runaway(6)
    make(num_walkers=8, num_rounds=5).fit(from_its_start(6), model, generator())
    assert model.visited == {0.0}


def test_far_from_all_data_the_value_stays_within_what_rewards_can_add_up_to() -> None:
    value = make()
    value.fit(corridor(6, terminates=True), no_model, generator())
    far = value(torch.tensor([[-100.0], [100.0]]))
    assert ((far >= 0.0) & (far <= 1 / (1 - DISCOUNT) + 1e-6)).all()


def test_a_restored_value_goes_on_identically() -> None:
    data, value, other = (
        corridor(6, terminates=True),
        make(num_rounds=2, improvement=0.5, num_walkers=4),
        make(num_rounds=2, improvement=0.5, num_walkers=4),
    )
    value.fit(data, safe_model, generator())
    other.load_training_state(copy.deepcopy(value.training_state()))
    value.fit(data, safe_model, generator(1))
    other.fit(data, safe_model, generator(1))
    assert_identical(value.training_state(), other.training_state())


def test_an_agent_with_a_terminal_value_resumes_as_if_it_had_never_stopped(tmp_path) -> None:
    settings = {"terminal_value": {"num_rounds": 2, "num_updates": 3}}
    agent = small_pets("CartPole-v1", **settings).learn(40)
    agent.save(tmp_path / "agent")
    resumed = small_pets("CartPole-v1", **settings)
    resumed.restore(tmp_path / "agent")
    assert_identical(resumed.learn(30).state_dict(), agent.learn(30).state_dict())
    assert agent.terminal_value is not None
    assert agent.terminal_value.std > 0


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_a_discount_lies_between_zero_and_one(discount: float) -> None:
    with pytest.raises(ValueError, match="discount"):
        make(discount=discount)
