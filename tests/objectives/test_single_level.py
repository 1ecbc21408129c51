"""MSE, NLL and beta-NLL against their definitions."""

import math

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.objectives import MIN_VARIANCE, MSE, NLL, BetaNLL, Objective, gaussian_nll
from mbrl_bilevel.types import Gaussian
from tests.objectives.cases import D, E, N, draw


def mean_gradient(objective: Objective, prediction: Gaussian, target: Tensor) -> Tensor:
    loss = objective.loss(prediction, target).sum()
    (gradient,) = torch.autograd.grad(loss, prediction.mean)
    return gradient


def test_the_nll_is_that_of_a_normal_distribution() -> None:
    prediction, target = draw()
    normal = torch.distributions.Normal(prediction.mean, (0.5 * prediction.log_var).exp())
    expected = -normal.log_prob(target)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(gaussian_nll(prediction, target), expected)
    torch.testing.assert_close(NLL().loss(prediction, target), expected.mean(dim=(1, 2)))


def test_the_nll_of_a_standard_normal_at_its_mean() -> None:
    zero = torch.zeros(1, 1, 1)
    nll = gaussian_nll(Gaussian(zero, zero), zero).item()
    assert nll == pytest.approx(0.5 * math.log(2 * math.pi))


def test_the_mse_ignores_the_variance() -> None:
    prediction, target = draw()
    loss = MSE(E, D).loss(prediction, target)
    torch.testing.assert_close(loss, (prediction.mean - target).square().mean(dim=(1, 2)))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert prediction.mean.grad is not None
    assert prediction.log_var.grad is None


def test_beta_nll_with_beta_0_is_the_nll() -> None:
    prediction, target = draw()
    expected = NLL().loss(prediction, target)
    found = BetaNLL(0.0).loss(prediction, target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    leaves = [prediction.mean, prediction.log_var]
    for own, nll in zip(
        torch.autograd.grad(found.sum(), leaves),
        torch.autograd.grad(expected.sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(own, nll, rtol=1e-12, atol=0)


def test_beta_nll_with_beta_1_moves_the_mean_as_the_mse_does() -> None:
    prediction, target = draw()
    found = mean_gradient(BetaNLL(1.0), prediction, target)
    expected = mean_gradient(MSE(E, D), prediction, target)
    torch.testing.assert_close(found, expected / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 1.0])
def test_beta_nll_weights_the_gradient_of_every_term(beta: float) -> None:
    """Equations 4 and 5 of Seitzer et al. (2022)."""
    prediction, target = draw()
    loss = BetaNLL(beta).loss(prediction, target).sum()
    mean_grad, log_var_grad = torch.autograd.grad(loss, [prediction.mean, prediction.log_var])
    variance, error = prediction.log_var.detach().exp(), (prediction.mean - target).detach()
    expected = variance ** (beta - 1) * error / (N * D)
    torch.testing.assert_close(mean_grad, expected, rtol=1e-10, atol=0)
    expected = variance**beta * 0.5 * (1 - error.square() / variance) / (N * D)
    torch.testing.assert_close(log_var_grad, expected, rtol=1e-9, atol=1e-15)


def test_the_mse_score_is_in_nats_and_finite_for_perfect_predictions() -> None:
    prediction, target = draw()
    objective = MSE(E, D)
    difference = objective.score(prediction, target) - objective.score(
        Gaussian(target + 0.1 * (prediction.mean - target), prediction.log_var), target
    )
    torch.testing.assert_close(difference, torch.full_like(difference, math.log(10)))
    perfect = Gaussian(target, prediction.log_var)
    assert objective.score(perfect, target).isfinite().all()
    objective.solve_outer(perfect, target)
    torch.testing.assert_close(
        objective.solution_log_var.exp(), torch.full((E, D), MIN_VARIANCE), rtol=1e-5, atol=0
    )
