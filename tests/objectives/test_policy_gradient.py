"""The policy gradient with a fixed reward matrix, against its closed forms."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.objectives import MSE, PolicyGradient, gaussian_nll
from mbrl_bilevel.objectives.policy_gradient import MIN_TARGET_VARIANCE
from mbrl_bilevel.types import Gaussian
from tests.objectives.cases import D, E, N, detached, draw

Structure = Literal["identity", "trace", "full"]
STRUCTURES: tuple[Structure, ...] = ("identity", "trace", "full")
EACH_STRUCTURE = pytest.mark.parametrize("structure", STRUCTURES)
EACH_TEMPERATURE = pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])


def correlated_targets(count: int = 50, size: int = D) -> tuple[Tensor, Tensor]:
    """Targets `[N, D]` whose mean is not zero, and their covariance."""
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    target = 5 + torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixing
    return target, torch.cov(target.mT, correction=0)


def prepared(structure: Structure, temperature: float = 1.0) -> PolicyGradient:
    objective = PolicyGradient(E, D, structure, temperature).double()
    objective.prepare(correlated_targets()[0])
    return objective


@EACH_TEMPERATURE
def test_the_matrices(temperature: float) -> None:
    _, covariance = correlated_targets()
    identity = torch.eye(D, dtype=torch.float64)
    expected = {
        "identity": identity,
        "trace": temperature * D / (2 * covariance.trace()) * identity,
        "full": temperature / 2 * torch.linalg.inv(covariance),
    }
    for structure in STRUCTURES:
        found = prepared(structure, temperature).matrix
        torch.testing.assert_close(found, expected[structure], rtol=1e-9, atol=1e-12)


@EACH_STRUCTURE
def test_before_it_is_prepared_targets_count_as_white(structure: Structure) -> None:
    generator = torch.Generator().manual_seed(0)
    white = torch.linalg.qr(torch.randn(50, D, generator=generator, dtype=torch.float64)).Q
    white = white - white.mean(dim=0)
    covariance = torch.cov(white.mT, correction=0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(covariance)).mT
    objective = PolicyGradient(E, D, structure, 0.5).double()
    before = objective.matrix.clone()
    objective.prepare(white)
    torch.testing.assert_close(objective.matrix, before)


@EACH_STRUCTURE
def test_the_loss_is_the_quadratic_form(structure: Structure) -> None:
    prediction, target = draw()
    objective = prepared(structure)
    losses = objective.loss(prediction, target)
    for member in range(E):
        errors = prediction.mean[member] - target[member]
        terms = torch.stack([error @ objective.matrix @ error for error in errors])
        torch.testing.assert_close(losses[member], terms.mean() / D)


def test_an_identity_has_the_loss_of_the_mse() -> None:
    prediction, target = draw()
    expected = MSE(E, D).loss(prediction, target)
    torch.testing.assert_close(prepared("identity").loss(prediction, target), expected)


@EACH_STRUCTURE
@EACH_TEMPERATURE
def test_the_variance_is_the_inner_problems_among_diagonal_ones(
    structure: Structure, temperature: float
) -> None:
    """`tr(U Sigma) - temperature H` has no gradient there, and is convex in the variance's log."""
    objective = prepared(structure, temperature)
    log_var = objective.solution_log_var.clone().requires_grad_()
    entropy = 0.5 * (1 + math.log(2 * math.pi) + log_var).sum()
    inner = (objective.matrix.diagonal() * log_var.exp()).sum() - temperature * entropy
    (gradient,) = torch.autograd.grad(inner, log_var)
    assert gradient.abs().max() <= 1e-12 * max(1.0, temperature)


@EACH_TEMPERATURE
def test_a_full_one_has_the_marginal_covariance(temperature: float) -> None:
    objective = prepared("full", temperature)
    covariance = objective.solution_covariance
    assert covariance is not None
    torch.testing.assert_close(covariance, correlated_targets()[1].expand(E, D, D))
    assert prepared("identity").solution_covariance is None
    assert prepared("trace").solution_covariance is None


@pytest.mark.parametrize("structure", ["identity", "trace"])
def test_the_score_is_the_likelihood(structure: Structure) -> None:
    objective, (prediction, target) = prepared(structure, 0.7), draw()
    expected = gaussian_nll(objective.predictive(prediction), target).mean(dim=(1, 2))
    torch.testing.assert_close(objective.score(prediction, target), expected)


def test_the_score_of_a_full_one_is_the_joint_likelihood() -> None:
    objective, (prediction, target) = prepared("full", 0.7), draw()
    covariance = objective.solution_covariance
    assert covariance is not None
    mean = prediction.mean.detach()
    density = torch.distributions.MultivariateNormal(mean, covariance[:, None])
    expected = -density.log_prob(target).mean(dim=1) / D  # type: ignore[no-untyped-call]
    torch.testing.assert_close(objective.score(detached(prediction), target), expected)


@EACH_STRUCTURE
def test_the_temperature_matters_to_an_identity_alone(structure: Structure) -> None:
    cold, warm = (prepared(structure, temperature) for temperature in (0.5, 5.0))
    same = torch.allclose(cold.solution_log_var, warm.solution_log_var)
    assert same is (structure != "identity")


def test_constant_and_repeated_targets_get_a_finite_weight() -> None:
    varying = correlated_targets(size=1)[0]
    target = torch.cat([varying, varying, torch.full_like(varying, 2.0)], dim=1)
    objective = PolicyGradient(E, 3, "full").double()
    objective.prepare(target)
    largest = torch.linalg.eigvalsh(objective.matrix)[-1].item()
    assert largest == pytest.approx(0.5 / MIN_TARGET_VARIANCE)
    for structure in STRUCTURES:
        objective = PolicyGradient(E, 3, structure)
        objective.prepare(target[:1].float())
        prediction = Gaussian(torch.zeros(E, N, 3), torch.zeros(E, N, 3))
        assert objective.solution_log_var.isfinite().all()
        assert objective.loss(prediction, torch.ones(E, N, 3)).isfinite().all()


def test_targets_that_are_not_finite_are_not_hidden() -> None:
    objective = PolicyGradient(E, D, "full")
    objective.prepare(torch.full((5, D), torch.nan))
    assert objective.matrix.isnan().all()
