"""The terminal value against discounted returns that are known."""

import copy

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


def test_far_from_all_data_the_value_stays_within_what_rewards_can_add_up_to() -> None:
    value = make()
    value.fit(corridor(6, terminates=True), no_model, generator())
    far = value(torch.tensor([[-100.0], [100.0]]))
    assert ((far >= 0.0) & (far <= 1 / (1 - DISCOUNT) + 1e-6)).all()


def test_a_restored_value_goes_on_identically() -> None:
    data, value, other = (
        corridor(6, terminates=True),
        make(num_rounds=2, improvement=1),
        make(num_rounds=2, improvement=1),
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
