"""Errors beyond the tails: Huber's gradient, for every constant reward."""

import pytest
import torch

from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.bilevel.tails import within_tails
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.types import Gaussian

TAILS = 3.0


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gaussian_errors() -> tuple[torch.Tensor, torch.Tensor]:
    """Means and targets `[2, 1000, 3]` with errors of sizes 1, .1 and 10; those of row 0 large."""
    mean = normal(2, 1000, 3, seed=1)
    errors = normal(2, 1000, 3) * torch.tensor([1.0, 0.1, 10.0])
    errors[:, 0] = 1e3
    return mean, mean + errors


def test_errors_within_the_tails_count_as_they_are() -> None:
    mean, target = gaussian_errors()
    limited = within_tails(mean, target, TAILS) - mean
    errors = target - mean
    scale = torch.tensor([1.0, 0.1, 10.0], dtype=torch.float64)
    inside = errors.abs() < 0.9 * TAILS * scale
    torch.testing.assert_close(limited[inside], errors[inside])
    expected = (TAILS * scale).expand(2, 3)
    torch.testing.assert_close(limited[:, 0], expected, rtol=0.1, atol=0)


def test_no_tails_change_nothing() -> None:
    mean, target = gaussian_errors()
    assert within_tails(mean, target, None) is target


def test_targets_may_be_the_same_for_all_members() -> None:
    mean, target = gaussian_errors()
    shared = target[0]
    expected = within_tails(mean, shared.expand(2, -1, -1), TAILS)
    assert torch.equal(within_tails(mean, shared, TAILS), expected)


def test_where_most_errors_are_zero_none_is_limited() -> None:
    mean = torch.zeros(1, 5, 1)
    target = torch.tensor([0.0, 0.0, 0.0, 0.0, 7.0]).view(1, 5, 1)
    assert torch.equal(within_tails(mean, target, TAILS), target)


@pytest.mark.parametrize("reward", ["scalar", "diagonal", "full"])
def test_the_loss_s_gradient_grows_no_further(reward: str) -> None:
    """And the held-out moments, by which the reward is learned, see the same errors."""
    mean, target = gaussian_errors()
    objective = make_objective(BilevelConfig(reward=reward, tails=TAILS), 2, 3)
    plain = make_objective(BilevelConfig(reward=reward, tails=None), 2, 3)
    limited = Gaussian(mean, torch.zeros_like(mean)), within_tails(mean, target, TAILS)
    prediction = Gaussian(mean, torch.zeros_like(mean))
    _, gradient, _ = objective.differentiate(prediction, target)
    torch.testing.assert_close(gradient, plain.differentiate(*limited)[1])
    _, unlimited, _ = plain.differentiate(prediction, target)
    assert (unlimited[:, 0].abs() > 10 * gradient[:, 0].abs()).all()
    torch.testing.assert_close(objective.score(prediction, target), plain.score(*limited))
    objective.solve_outer(prediction, target)
    plain.solve_outer(*limited)
    found, expected = objective.solution_log_var, plain.solution_log_var
    assert found is not None
    assert expected is not None
    torch.testing.assert_close(found, expected)
