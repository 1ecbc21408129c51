"""How unlike the training data an input is."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics.leverage import RIDGE, Leverage
from tests.dynamics.cases import generator

E, F, D, N = 2, 4, 3, 600


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, F, generator=generator(seed), dtype=torch.float64)


def with_one(values: Tensor) -> Tensor:
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


@pytest.fixture
def leverage() -> Leverage:
    fitted = Leverage(E, F, D).double()
    for member in range(E):
        fitted.fit(member, with_one(features(member, N)))
    return fitted


def test_it_is_a_quadratic_form_of_the_inverse_second_moments(leverage: Leverage) -> None:
    training, far = with_one(features(0, N)), with_one(3 * features(7, 5))
    moments = training.mT @ training / N
    moments += RIDGE * moments.diagonal().mean() * torch.eye(F + 1)

    def by_hand(row: Tensor) -> Tensor:
        return (row @ torch.linalg.solve(moments, row) / (F + 1)).log1p()

    expected = torch.stack([by_hand(row) for row in far])
    expected -= torch.stack([by_hand(row) for row in training]).mean()
    torch.testing.assert_close(leverage.of_member(0, far)[:, 0], expected)


def test_it_is_nothing_on_average_over_the_training_data(leverage: Leverage) -> None:
    for member in range(E):
        found = leverage.of_member(member, with_one(features(member, N)))
        assert found.mean().abs() < 1e-12
        assert found.std() > 0.1


def test_it_grows_with_the_distance(leverage: Leverage) -> None:
    direction = features(9, 1)
    steps = [leverage.of_member(0, with_one(scale * direction)) for scale in (2.0, 5.0, 20.0)]
    assert steps[0] < steps[1] < steps[2]


def test_all_members_at_once_are_the_members_one_by_one(leverage: Leverage) -> None:
    leverage.slope.copy_(torch.rand(E, 1, D, generator=generator(1)))
    inputs = features(5, E, 7)
    found = leverage(inputs)
    for member in range(E):
        alone = leverage.of_member(member, with_one(inputs[member]))
        torch.testing.assert_close(found[member], alone * leverage.slope[member])


def test_it_is_inactive_until_a_slope_is_given_and_when_forgotten(leverage: Leverage) -> None:
    assert not leverage.is_active
    assert not leverage(features(5, E, 7)).any()
    leverage.slope[1, 0, 2] = 0.5
    assert leverage.is_active
    leverage.forget()
    assert not leverage.is_active


def test_features_that_depend_on_each_other_do_no_harm() -> None:
    same = with_one(features(0, N)[:, :1].expand(-1, F))
    leverage = Leverage(1, F, D).double()
    leverage.fit(0, same)
    assert leverage.of_member(0, same).isfinite().all()
