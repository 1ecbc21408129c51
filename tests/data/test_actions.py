"""Actions of every supported space, to features and back."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_bilevel.data import ActionCodec, observation_size
from mbrl_bilevel.errors import EnvError


def box(low: list[float], high: list[float]) -> spaces.Box:
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


ASYMMETRIC = box([-3.0, 2.0, 0.5], [1.0, 10.0, 0.75])
SPACES = {
    "asymmetric": ASYMMETRIC,
    "pendulum": spaces.Box(-2.0, 2.0, (1,), np.float32),
    "matrix": spaces.Box(-1.0, 3.0, (2, 3), np.float64),
    "scalar": spaces.Box(0.0, 5.0, (), np.float32),
    "integers": spaces.Box(-7, 1000, (2,), np.int64),
    "bytes": spaces.Box(0, 255, (4,), np.uint8),
    "discrete": spaces.Discrete(4),
    "discrete_from_minus_2": spaces.Discrete(5, start=-2),
    "discrete_from_3": spaces.Discrete(2, start=3),
    "discrete_int32": spaces.Discrete(3, dtype=np.int32),
}
EACH_SPACE = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def sample(space: gym.Space[Any], count: int = 200) -> NDArray[Any]:
    space.seed(0)
    return np.stack([np.asarray(space.sample()) for _ in range(count)])


@EACH_SPACE
def test_actions_come_back_from_storage_and_from_features(space: gym.Space[Any]) -> None:
    codec, actions = ActionCodec(space), sample(space)
    stored = codec.flatten(actions)
    assert stored.shape == (len(actions), *codec.flat_shape)
    features = codec.encode(stored)
    assert features.shape == (len(actions), codec.size)
    assert features.dtype == torch.float32
    back = codec.to_env(features)
    assert back.shape == actions.shape
    assert back.dtype == space.dtype
    np.testing.assert_allclose(back, actions, rtol=0, atol=1e-6)


@EACH_SPACE
def test_whatever_the_features_the_action_is_inside_the_space(space: gym.Space[Any]) -> None:
    codec = ActionCodec(space)
    noise = 5 * torch.randn(300, codec.size, generator=torch.Generator().manual_seed(0))
    corners = torch.cat([noise, torch.ones(1, codec.size), -torch.ones(1, codec.size)])
    assert all(space.contains(np.asarray(action)) for action in codec.to_env(corners))


@EACH_SPACE
def test_encoded_tensors_equal_encoded_arrays(space: gym.Space[Any]) -> None:
    codec = ActionCodec(space)
    stored = codec.flatten(sample(space))
    assert torch.equal(codec.encode(torch.from_numpy(stored)), codec.encode(stored))


def test_each_dimension_of_a_box_spans_minus_one_to_one() -> None:
    codec = ActionCodec(ASYMMETRIC)
    assert not codec.is_discrete
    stored = np.array([[-3.0, 2.0, 0.5], [-1.0, 6.0, 0.625], [1.0, 10.0, 0.75], [0.0, 4.0, 0.5]])
    expected = [[-1.0] * 3, [0.0] * 3, [1.0] * 3, [0.5, -0.5, -1.0]]
    assert codec.encode(stored).tolist() == expected
    decoded = codec.decode(torch.tensor([[[0.5, -0.5, -1.0]]]))
    assert decoded.tolist() == [[[0.0, 4.0, 0.5]]]


def test_actions_beyond_the_bounds_are_encoded_as_the_bounds() -> None:
    codec = ActionCodec(SPACES["pendulum"])
    assert codec.encode(np.array([[-5.0], [2.5]])).tolist() == [[-1.0], [1.0]]


def test_a_box_is_flattened_in_the_order_of_its_memory() -> None:
    codec = ActionCodec(SPACES["matrix"])
    action = np.arange(6.0).reshape(1, 2, 3) / 3
    assert codec.flatten(action).tolist() == [action.reshape(-1).astype(np.float32).tolist()]
    np.testing.assert_allclose(codec.to_env(codec.encode(codec.flatten(action))), action, atol=1e-6)


def test_discrete_actions_are_one_hot_from_the_first_one_on() -> None:
    codec = ActionCodec(spaces.Discrete(3, start=-1))
    assert codec.is_discrete
    assert codec.encode(np.array([-1, 1])).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert codec.decode(torch.tensor([[0.1, 0.7, 0.2], [0.9, 0.1, 0.0]])).tolist() == [0, -1]


def test_integers_are_rounded_to_the_nearest() -> None:
    codec = ActionCodec(spaces.Box(0, 10, (1,), np.int64))
    assert codec.to_env(torch.tensor([[0.98], [-0.98], [0.11]])).tolist() == [[10], [0], [6]]


def test_a_dimension_with_a_single_value_encodes_to_zero() -> None:
    codec = ActionCodec(box([0.0, 1.5], [0.0, 2.5]))
    assert codec.encode(np.array([[0.0, 2.5]])).tolist() == [[0.0, 1.0]]
    assert codec.to_env(torch.tensor([[0.7, 1.0]])).tolist() == [[0.0, 2.5]]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2,)),
        box([-1.0, -np.inf], [1.0, 1.0]),
        box([-1.0, -1.0], [1.0, np.inf]),
    ],
)
def test_a_box_without_bounds_is_refused(space: spaces.Box) -> None:
    with pytest.raises(EnvError, match=r"Box.* has no finite bounds; allowed: .*RescaleAction"):
        ActionCodec(space)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (spaces.MultiDiscrete([2, 3]), r"MultiDiscrete\(\[2 3\]\)"),
        (spaces.MultiBinary(3), "MultiBinary"),
        (spaces.Dict(push=spaces.Discrete(2)), r"Dict\('push'"),
        (spaces.Tuple([spaces.Discrete(2)]), "Tuple"),
    ],
)
def test_other_action_spaces_are_refused(space: gym.Space[Any], name: str) -> None:
    with pytest.raises(EnvError, match=f"action space {name}.* not supported; allowed: Box, Disc"):
        ActionCodec(space)


def test_the_size_of_observations() -> None:
    assert observation_size(spaces.Box(-np.inf, np.inf, (17,))) == 17


@pytest.mark.parametrize(
    ("space", "hint"),
    [
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), "images are not supported"),
        (spaces.Box(-1, 1, (2, 2)), "FlattenObservation"),
        (spaces.Box(-1, 1, ()), "FlattenObservation"),
        (spaces.Discrete(4), "FlattenObservation"),
        (spaces.Dict(state=spaces.Box(-1, 1, (2,))), "FlattenObservation"),
    ],
)
def test_other_observation_spaces_are_refused(space: gym.Space[Any], hint: str) -> None:
    with pytest.raises(EnvError, match=f"observation space .* not supported; allowed: .*{hint}"):
        observation_size(space)
