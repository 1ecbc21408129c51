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
    fast = {"discount": DISCOUNT, "num_rounds": 40, "num_updates": 20, "batch_size": 32, "lr": 5e-3}
    config = TerminalValueConfig.model_validate({**fast, "num_states": 32, **settings})
    return TerminalValue(1, config, generator())


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


def recorded(*states: float) -> Transitions:
    """Steps that begin in these states, ten of each; all pay one, and nothing follows them."""
    obs = np.repeat(np.array(states, np.float32), 10)[:, None]
    return Transitions(
        obs=obs,
        actions=np.zeros_like(obs),
        rewards=np.ones(len(obs), np.float32),
        next_obs=obs,
        terminated=np.ones(len(obs), np.bool_),
        truncated=np.zeros(len(obs), np.bool_),
    )


def test_nothing_is_worth_anything_before_the_first_fit() -> None:
    assert make()(torch.randn(3, 2, 1, generator=generator())).tolist() == [[0.0, 0.0]] * 3


def test_a_state_is_worth_the_rewards_up_to_the_end() -> None:
    value, length = make(), 6
    value.fit(recorded(*range(length)), Corridor(length), generator())
    remaining = length - torch.arange(length)
    expected = (1 - DISCOUNT**remaining) / (1 - DISCOUNT)
    found = value(torch.arange(length, dtype=torch.float32)[:, None])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.15)


def test_what_does_not_end_is_worth_what_follows() -> None:
    value = make()
    value.fit(recorded(*range(6)), Corridor(6, terminates=False), generator())
    found = value(torch.arange(6, dtype=torch.float32)[:, None])
    torch.testing.assert_close(found, torch.full((6,), 1 / (1 - DISCOUNT)), rtol=0, atol=0.15)


@pytest.mark.parametrize("improvement", [0.0, 0.5, 1.0])
def test_the_best_action_counts_as_often_as_is_said(improvement: float) -> None:
    """One of four actions stays for ever, the others end at once; all pay one."""
    value = make(improvement=improvement, num_actions=4, num_rounds=80)
    value.fit(recorded(0.0), Corridor(1, rest=True), generator())
    # v = 1 + P(stay) * discount * v
    stays = improvement + (1 - improvement) / 4
    expected = 1 / (1 - stays * DISCOUNT)
    assert value(torch.zeros(1, 1)).item() == pytest.approx(expected, abs=0.05)


def test_walkers_come_to_states_that_no_episode_has_met() -> None:
    value, length, model = make(), 6, Corridor(6)
    value.fit(recorded(0.0, 1.0), model, generator())
    assert model.visited == set(range(length))
    assert value(torch.tensor([[length - 1.0]])).item() == pytest.approx(1.0, abs=0.15)


def test_far_from_all_data_the_value_stays_within_what_rewards_can_add_up_to() -> None:
    value = make()
    value.fit(recorded(*range(6)), Corridor(6), generator())
    far = value(torch.tensor([[-100.0], [100.0]]))
    assert ((far >= 0.0) & (far <= 1 / (1 - DISCOUNT) + 1e-6)).all()


def test_a_restored_value_goes_on_identically() -> None:
    data, value, other = recorded(*range(6)), make(num_rounds=2), make(num_rounds=2)
    value.fit(data, Corridor(6), generator())
    other.load_training_state(copy.deepcopy(value.training_state()))
    value.fit(data, Corridor(6), generator(1))
    other.fit(data, Corridor(6), generator(1))
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
