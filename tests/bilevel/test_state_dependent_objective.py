"""The bilevel objective with U(x): its loss has the gradients of both problems."""

import math

import pytest
import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import (
    FunctionalProblem,
    PolicyGradientLoss,
    hypergradient,
    make_objective,
    make_solver,
)
from mbrl_bilevel.bilevel.state_dependent import StateDependentBilevel
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.objectives import NLL, BetaNLL, gaussian_nll
from mbrl_bilevel.rewards import DiagonalPrecision, QuadraticReward
from mbrl_bilevel.types import Gaussian

E, N, D = 2, 5, 3
EACH_TEMPERATURE = pytest.mark.parametrize("temperature", [0.2, 1.0, 7.0])
EACH_EXPONENT = pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def prediction() -> Gaussian:
    """Leaves, with log-variances over several orders of magnitude."""
    mean, log_var = normal(0, E, N, D), 2 * normal(1, E, N, D) - 1
    return Gaussian(mean.requires_grad_(), log_var.requires_grad_())


TARGET = normal(2, N, D)


class FreePrecision(QuadraticReward):
    """A U for every member and sample: what a network of x could give out."""

    def __init__(self, log_precision: Tensor) -> None:
        super().__init__()
        self.log_precision = nn.Parameter(log_precision.detach().clone())

    def precision(self, x: Tensor | None = None) -> DiagonalPrecision:
        del x
        return DiagonalPrecision(self.log_precision)


def objective(temperature: float = 1.0, exponent: float = 0.5) -> StateDependentBilevel:
    return StateDependentBilevel(
        D, BilevelConfig(temperature=temperature, natural_gradient=exponent)
    )


def gradients(of: NLL | BetaNLL | StateDependentBilevel) -> tuple[Tensor, Tensor]:
    """Of the loss, in means and log-variances, `[E, N, D]`."""
    at = prediction()
    loss = of.loss(at, TARGET)
    assert loss.shape == (E,)
    mean, log_var = torch.autograd.grad(loss.sum(), (at.mean, at.log_var))
    return mean, log_var


def preconditioner(exponent: float) -> Tensor:
    """`Sigma^k`; and what the means over samples and dimensions divide by."""
    return (exponent * prediction().log_var.detach()).exp() / (N * D)


@EACH_TEMPERATURE
@EACH_EXPONENT
def test_the_gradient_in_the_mean_is_the_inner_problems(
    temperature: float, exponent: float
) -> None:
    """That of the policy gradient on U(x), times `Sigma^k / temperature`."""
    ours = objective(temperature, exponent)
    at = prediction()
    reward = FreePrecision(ours.log_precision(at))
    inner = PolicyGradientLoss(DiagonalGaussianHead(D), reward, Analytic(), temperature)
    outputs = torch.cat([at.mean, at.log_var], dim=-1)
    loss = inner(outputs, reward.outer_params(), None, TARGET)
    (of_inner,) = torch.autograd.grad(loss.sum(), at.mean)
    expected = preconditioner(exponent) / temperature * of_inner
    torch.testing.assert_close(gradients(ours)[0], expected)


@EACH_TEMPERATURE
def test_the_covariance_is_at_the_inner_solution(temperature: float) -> None:
    """`Sigma = (temperature / 2) U^-1`: nothing is left of the inner gradient in log-variances."""
    ours = objective(temperature)
    at = prediction()
    reward = FreePrecision(ours.log_precision(at))
    inner = PolicyGradientLoss(DiagonalGaussianHead(D), reward, Analytic(), temperature)
    loss = inner(torch.cat([at.mean, at.log_var], dim=-1), reward.outer_params(), None, TARGET)
    (left_over,) = torch.autograd.grad(loss.sum(), at.log_var)
    torch.testing.assert_close(left_over, torch.zeros_like(left_over))
    torch.testing.assert_close(
        ours.log_precision(at).exp(), 0.5 * temperature * (-at.log_var).exp()
    )


@EACH_TEMPERATURE
@EACH_EXPONENT
def test_the_gradient_in_the_log_variance_is_the_hypergradient(
    temperature: float, exponent: float
) -> None:
    """By the implicit function theorem in the outputs; `d log_var / d log U = -1` turns the sign.

    Unlike the mean's, it is not divided by the temperature.
    """
    ours = objective(temperature, exponent)
    at = prediction()
    outputs = torch.cat([at.mean, at.log_var], dim=-1).detach()
    head, reward = DiagonalGaussianHead(D), FreePrecision(ours.log_precision(at))
    inner = PolicyGradientLoss(head, reward, Analytic(), temperature)
    data = torch.zeros(N, 1), TARGET

    def outer(z: Tensor, _phi: dict[str, Tensor], _x: Tensor, target: Tensor) -> Tensor:
        return -head.log_prob(z, target)

    problem = FunctionalProblem(
        lambda theta, _: theta["z"], inner, outer, inner.conditional, data, data
    )
    found = hypergradient(problem, {"z": outputs}, reward.outer_params(), make_solver("functional"))
    in_log_precision = found.grad["log_precision"] * E * N
    residual = (at.mean - TARGET).detach()
    formula = 0.5 * (residual.square() * (-at.log_var.detach()).exp() - 1)
    torch.testing.assert_close(in_log_precision, formula)
    expected = -preconditioner(exponent) * in_log_precision
    torch.testing.assert_close(gradients(ours)[1], expected)


@EACH_EXPONENT
def test_the_temperature_does_not_matter(exponent: float) -> None:
    """Only `U / temperature` does."""
    one, other = objective(0.1, exponent), objective(9.0, exponent)
    for first, second in zip(gradients(one), gradients(other), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(one.score(prediction(), TARGET), other.score(prediction(), TARGET))
    difference = other.log_precision(prediction()) - one.log_precision(prediction())
    torch.testing.assert_close(difference, torch.full_like(difference, math.log(90)))


@EACH_EXPONENT
def test_the_gradients_are_those_of_beta_nll(exponent: float) -> None:
    for found, expected in zip(
        gradients(objective(3.0, exponent)), gradients(BetaNLL(exponent)), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_without_preconditioning_they_are_those_of_nll() -> None:
    without = gradients(objective(exponent=0.0))
    for found, expected in zip(without, gradients(NLL()), strict=True):
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(without[0], gradients(objective(exponent=0.5))[0])


def test_with_the_whole_natural_gradient_the_means_is_the_squared_errors() -> None:
    found, _ = gradients(objective(exponent=1.0))
    torch.testing.assert_close(found, (prediction().mean.detach() - TARGET) / (N * D))


def test_preconditioning_moves_no_fixed_point() -> None:
    """Targets a standard deviation off on either side: both gradients are zero in the mean."""
    at = Gaussian(
        *(value[:, :1].detach().requires_grad_() for value in vars(prediction()).values())
    )
    std = (0.5 * at.log_var.detach()).exp()
    target = at.mean.detach() + torch.cat([std, -std], dim=1)
    for exponent in (0.0, 0.5, 1.0):
        loss = objective(exponent=exponent).loss(at, target)
        for found in torch.autograd.grad(loss.sum(), (at.mean, at.log_var)):
            torch.testing.assert_close(found, torch.zeros_like(found))


def test_members_do_not_share_a_loss() -> None:
    at = prediction()
    (found,) = torch.autograd.grad(objective().loss(at, TARGET)[0], at.mean)
    assert (found[0] != 0).all()
    assert (found[1] == 0).all()


def test_it_predicts_and_is_judged_as_the_network_says() -> None:
    ours = make_objective(BilevelConfig(reward="state_dependent"), E, D)
    assert isinstance(ours, StateDependentBilevel)
    assert ours.log_var_head_is_reward
    assert ours.outer_every is None
    at = prediction()
    assert ours.predictive(at) is at
    assert ours.solution_log_var is None
    torch.testing.assert_close(ours.score(at, TARGET), gaussian_nll(at, TARGET).mean(dim=(1, 2)))
