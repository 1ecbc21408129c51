"""Rings of transitions, and the batches that are mixed of two."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.imagination.spaces import float32_box
from mbrl_agents.policies.replay import MixedReplay, RealTransitions, SB3BufferWithReal
from mbrl_agents.policies.transitions import TransitionRing
from mbrl_bilevel.data import ActionCodec, ReplayBuffer

BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))


def make_ring(capacity: int, seed: int = 0) -> TransitionRing:
    return TransitionRing(capacity, 3, ActionCodec(BOX), torch.Generator().manual_seed(seed))


def add(ring: TransitionRing, *numbers: int) -> None:
    """Append transitions that are their number throughout."""
    column = torch.tensor(numbers, dtype=torch.float32)
    wide = column[:, None]
    ring.add(wide.expand(-1, 3), wide.expand(-1, 2), column, wide.expand(-1, 3) + 1, column > 2)


def held(ring: TransitionRing) -> list[float]:
    return [float(number) for number in ring.state_dict()["rewards"][:, 0]]


def test_the_newest_stay_in_their_order() -> None:
    ring = make_ring(4)
    add(ring, 0, 1, 2)
    assert held(ring) == [0, 1, 2]
    assert len(ring) == 3
    add(ring, 3, 4, 5)
    assert held(ring) == [2, 3, 4, 5]
    assert len(ring) == 4
    add(ring, *range(6, 16))
    assert held(ring) == [12, 13, 14, 15]


@pytest.mark.parametrize(("capacity", "expected"), [(2, [4, 5]), (3, [3, 4, 5]), (9, [3, 4, 5])])
def test_the_newest_stay_in_another_capacity(capacity: int, expected: list[float]) -> None:
    ring = make_ring(3)
    add(ring, 0, 1, 2, 3)
    add(ring, 4, 5)
    ring.set_capacity(capacity)
    assert held(ring) == expected
    assert ring.capacity == capacity
    add(ring, 6)
    assert held(ring) == [*expected, 6][-capacity:]


def test_samples_have_the_form_that_stable_baselines3_asks_for() -> None:
    ring = make_ring(10)
    add(ring, 1, 2, 3, 4)
    batch = ring.sample(200)
    assert [tuple(column.shape) for column in batch[:5]] == [
        (200, 3), (200, 2), (200, 3), (200, 1), (200, 1),
    ]  # fmt: skip
    number = batch.rewards
    assert set(number[:, 0].tolist()) == {1, 2, 3, 4}
    assert torch.equal(batch.observations, number.expand(-1, 3))
    assert torch.equal(batch.actions, number.expand(-1, 2))
    assert torch.equal(batch.next_observations, number.expand(-1, 3) + 1)
    assert torch.equal(batch.dones, (number > 2).float())
    assert batch.discounts is None


def test_a_ring_that_comes_back_draws_the_same() -> None:
    ring = make_ring(4)
    add(ring, 0, 1, 2, 3)
    add(ring, 4, 5)
    back = make_ring(1)
    back.load_state_dict(ring.state_dict())
    assert held(back) == held(ring)
    assert torch.equal(back.sample(50).rewards, ring.sample(50).rewards)
    back.set_capacity(5)
    ring.set_capacity(5)
    add(back, 6, 7)
    add(ring, 6, 7)
    assert held(back) == held(ring) == [3, 4, 5, 6, 7]


def test_an_empty_ring_comes_back_empty() -> None:
    ring = make_ring(4)
    add(ring, 0)
    ring.load_state_dict(make_ring(4).state_dict())
    assert len(ring) == 0


def recorded(codec: ActionCodec, count: int) -> ReplayBuffer:
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer(3, codec.flat_shape, 0.2, 0)
    for row in range(count):
        obs, next_obs = rng.normal(size=(2, 3))
        buffer.add(obs, codec.space.sample(), float(row), next_obs, row % 5 == 0, row % 5 == 1)
    return buffer


def make_real(space: gym.Space[object], count: int) -> tuple[RealTransitions, ReplayBuffer]:
    codec = ActionCodec(space)
    real = RealTransitions(3, codec, torch.Generator().manual_seed(0))
    buffer = recorded(codec, count)
    real.catch_up(buffer)
    return real, buffer


def test_real_transitions_catch_up_with_what_is_recorded() -> None:
    real, buffer = make_real(BOX, 10)
    for row in range(10, 25):
        buffer.add(np.zeros(3), np.array([2.0, 0.25]), float(row), np.ones(3), False, True)
        real.catch_up(buffer)
        real.catch_up(buffer)
    state, transitions = real.state_dict(), buffer.all()
    assert state["rewards"][:, 0].tolist() == list(range(25))
    assert torch.equal(state["obs"], torch.tensor(transitions.obs))
    assert torch.equal(real.obs, state["obs"])
    assert torch.equal(state["actions"][-1], torch.tensor([1.0, -0.5]))
    assert torch.equal(state["actions"], ActionCodec(BOX).encode(transitions.actions))
    # A time limit ends no value.
    assert torch.equal(state["terminated"][:, 0].bool(), torch.tensor(transitions.terminated))


def test_discrete_actions_are_indices() -> None:
    real, buffer = make_real(spaces.Discrete(4, seed=0), 8)
    actions = real.state_dict()["actions"]
    assert actions.dtype == torch.int64
    assert actions[:, 0].tolist() == buffer.all().actions.tolist()


def is_real(rewards: Tensor) -> int:
    return int((rewards >= 0).sum())


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.0, 0), (0.001, 1), (0.05, 5), (0.5, 50), (1.0, 100)]
)
def test_a_share_of_each_batch_is_real(ratio: float, expected: int) -> None:
    real, _ = make_real(BOX, 20)
    imagined = make_ring(5)
    add(imagined, -1, -2, -3)
    batch = MixedReplay(real, imagined, ratio).sample(100, None)
    assert is_real(batch.rewards) == expected
    assert {len(column) for column in batch[:5]} == {100}

    space = float32_box(spaces.Box(-1.0, 1.0, (3,)))
    own = SB3BufferWithReal(50, space, BOX, n_envs=2, real=real, real_data_ratio=ratio)
    zeros = np.zeros((2, 3), np.float32)
    own.add(zeros, zeros, np.zeros((2, 2)), np.array([-1.0, -2.0]), np.zeros(2), [{}, {}])
    batch = own.sample(100)
    assert is_real(batch.rewards) == expected
    assert {len(column) for column in batch[:5]} == {100}


def test_rewards_are_scaled_in_batches_and_stay_as_they_are_in_the_rings() -> None:
    def replay(scale: float) -> MixedReplay:
        real, _ = make_real(BOX, 20)
        imagined = make_ring(5)
        add(imagined, -1, -2, -3)
        return MixedReplay(real, imagined, 0.5, scale)

    scaled = replay(0.25)
    expected, batch = replay(1.0).sample(100), scaled.sample(100)
    assert torch.equal(batch.rewards, 0.25 * expected.rewards)
    assert torch.equal(batch.observations, expected.observations)
    assert held(scaled.imagined) == [-1, -2, -3]


def test_indices_of_discrete_actions_are_mixed() -> None:
    space = spaces.Discrete(4, seed=0)
    real, _ = make_real(space, 8)
    box = float32_box(spaces.Box(-1.0, 1.0, (3,)))
    own = SB3BufferWithReal(50, box, space, real=real, real_data_ratio=0.5)
    zeros = np.zeros((1, 3), np.float32)
    own.add(zeros, zeros, np.array([2]), np.zeros(1), np.zeros(1), [{}])
    batch = own.sample(10)
    assert batch.actions.dtype == torch.int64
    assert batch.actions.shape == (10, 1)
