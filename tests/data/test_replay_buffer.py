"""Storage of transitions, and who may see them."""

import copy
from typing import Any

import numpy as np
import pytest

from mbrl_bilevel.data import ReplayBuffer, Transitions


def filled(
    count: int, fraction: float = 0.2, seed: int = 0, action_shape: tuple[int, ...] = (1,)
) -> ReplayBuffer:
    buffer = ReplayBuffer(2, action_shape, fraction, seed)
    add(buffer, 0, count)
    return buffer


def add(buffer: ReplayBuffer, start: int, stop: int) -> None:
    """Append transitions that can be told by their number `i`: obs is (i, -i)."""
    for i in range(start, stop):
        action: Any = i % 3 if buffer.all().actions.ndim == 1 else np.array([i / 10])
        obs = np.array([i, -i], dtype=np.float64)
        buffer.add(obs, action, i / 2, obs + 1, terminated=i % 5 == 0, truncated=i % 7 == 0)


def numbers(transitions: Transitions) -> list[int]:
    return [int(i) for i in transitions.obs[:, 0]]


def equal(one: Transitions, other: Transitions) -> bool:
    names = Transitions.__dataclass_fields__
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 3000])
def test_everything_comes_back_in_order(count: int) -> None:
    buffer = filled(count)
    recorded = buffer.all()
    i = np.arange(count)
    assert len(buffer) == len(recorded) == count
    np.testing.assert_array_equal(recorded.obs, np.stack([i, -i], axis=1))
    np.testing.assert_array_equal(recorded.next_obs, np.stack([i + 1, 1 - i], axis=1))
    np.testing.assert_array_equal(recorded.actions, (i / 10)[:, None].astype(np.float32))
    np.testing.assert_array_equal(recorded.rewards, i / 2)
    np.testing.assert_array_equal(recorded.terminated, i % 5 == 0)
    np.testing.assert_array_equal(recorded.truncated, i % 7 == 0)


def test_discrete_actions_stay_integers() -> None:
    recorded = filled(5, action_shape=()).all()
    assert recorded.actions.dtype == np.int64
    assert recorded.actions.tolist() == [0, 1, 2, 0, 1]


def test_training_and_held_out_share_the_transitions_between_them() -> None:
    buffer = filled(500)
    training, held_out = numbers(buffer.training()), numbers(buffer.held_out())
    assert sorted(training + held_out) == list(range(500))
    assert training == sorted(training)
    assert held_out == sorted(held_out)
    assert buffer.held_out().rewards.tolist() == [i / 2 for i in held_out]


def test_an_assignment_is_for_good() -> None:
    buffer = filled(0)
    training: list[int] = []
    held_out: list[int] = []
    for count in (10, 100, 1000, 3000):
        add(buffer, len(buffer), count)
        assert numbers(buffer.training())[: len(training)] == training
        assert numbers(buffer.held_out())[: len(held_out)] == held_out
        training, held_out = numbers(buffer.training()), numbers(buffer.held_out())


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.73, 0.99])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_is_exact_to_within_one_at_any_size(fraction: float, seed: int) -> None:
    held_out = set(numbers(filled(1000, fraction, seed).held_out()))
    count = np.cumsum([i in held_out for i in range(1000)])
    owed = fraction * np.arange(1, 1001)
    assert np.abs(count - owed).max() < 1


def test_the_assignment_is_random_and_reproducible() -> None:
    by_seed = [numbers(filled(300, 0.25, seed).held_out()) for seed in (0, 0, 1)]
    assert by_seed[0] == by_seed[1]
    assert by_seed[0] != by_seed[2]
    # Not every fourth one: an environment's own period must not decide who is held out.
    assert len(set(np.diff(by_seed[0]))) >= 5


def test_a_selection_keeps_rows_together() -> None:
    recorded = filled(30).all()
    mask = recorded.terminated
    assert numbers(recorded[mask]) == [0, 5, 10, 15, 20, 25]
    assert recorded[mask].rewards.tolist() == [0.0, 2.5, 5.0, 7.5, 10.0, 12.5]
    assert numbers(recorded[3:5]) == [3, 4]
    assert numbers(recorded[np.array([7, 2])]) == [7, 2]
    assert len(recorded[3:5]) == 2


@pytest.mark.parametrize("count", [0, 1, 700, 1024])
def test_a_restored_buffer_goes_on_identically(count: int) -> None:
    original = filled(count, seed=3)
    state = copy.deepcopy(original.state_dict())
    restored = ReplayBuffer(2, (1,), 0.2, seed=99)
    restored.load_state_dict(state)
    assert len(restored) == count
    for buffer in (original, restored):
        add(buffer, count, count + 600)
    assert equal(original.all(), restored.all())
    assert equal(original.training(), restored.training())
    assert equal(original.held_out(), restored.held_out())


def test_a_saved_state_does_not_change_with_the_buffer() -> None:
    buffer = filled(10)
    state = buffer.state_dict()
    add(buffer, 10, 20)
    restored = ReplayBuffer(2, (1,), 0.2, seed=99)
    restored.load_state_dict(state)
    add(restored, 10, 12)
    assert numbers(restored.all()) == list(range(12))
    assert len(state["arrays"]["rewards"]) == 10
    assert numbers(restored.held_out()) == [i for i in numbers(buffer.held_out()) if i < 12]
