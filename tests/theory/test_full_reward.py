"""A full reward: `U* = (temperature / 2) S^-1`, its hypergradient, and the way there."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mbrl_bilevel.bilevel import Bilevel, FullBilevel, PolicyGradientLoss
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.heads import DiagonalGaussianHead, FullGaussianHead
from mbrl_bilevel.objectives import MSE, residual_moment_matrix
from mbrl_bilevel.rewards.precision import FullPrecision, full_precision_entries
from mbrl_bilevel.types import Gaussian

E, N, D = 2, 64, 3
EACH_TEMPERATURE = pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def positive_definite(seed: int) -> Tensor:
    root = normal(seed, E, D, D)
    return root @ root.mT + 0.1 * torch.eye(D, dtype=torch.float64)


def make(start: Tensor | None = None, **settings: float) -> FullBilevel:
    config = BilevelConfig.model_validate({"reward": "full", **settings})
    objective = FullBilevel(E, D, config).double()
    if start is not None:
        set_matrix(objective, start)
    return objective


def set_matrix(objective: FullBilevel, matrix: Tensor) -> None:
    log_root, upper = full_precision_entries(matrix)
    with torch.no_grad():
        objective.reward.log_root.copy_(log_root)
        objective.reward.upper.copy_(upper)


def matrix_of(objective: FullBilevel) -> Tensor:
    return objective.reward.precision().matrix().detach()[:, 0]


def held_out(seed: int = 0) -> tuple[Gaussian, Tensor, Tensor]:
    """Means, targets that miss them by correlated errors, and their second moment `[E, D, D]`."""
    mean, noise = normal(seed, 2, E, N, D)
    error = noise @ positive_definite(seed + 1)
    return Gaussian(mean, torch.full_like(mean, 9.0)), mean + error, error.mT @ error / N


def joint_nll(objective: FullBilevel, prediction: Gaussian, target: Tensor) -> Tensor:
    """NLL per dimension under `N(mu, Sigma*)` of each member, `[E]`."""
    covariance = objective.solution_covariance[:, None]
    density = MultivariateNormal(prediction.mean, covariance)
    log_prob: Tensor = density.log_prob(target)  # type: ignore[no-untyped-call]
    return -log_prob.mean(dim=1) / D


@EACH_TEMPERATURE
def test_the_fixed_point_is_the_inverse_residual_covariance(temperature: float) -> None:
    objective, (prediction, target, moment) = make(temperature=temperature), held_out()
    metrics = objective.solve_outer(prediction, target)
    expected = temperature / 2 * torch.linalg.inv(moment)
    torch.testing.assert_close(matrix_of(objective) / expected.norm(), expected / expected.norm())
    whitened = 2 / temperature * matrix_of(objective) @ moment
    identity = torch.eye(D, dtype=torch.float64).expand(E, D, D)
    torch.testing.assert_close(whitened, identity, rtol=0, atol=1e-6)
    assert metrics["bilevel/hypergradient_norm"] < 1e-5
    assert metrics["bilevel/outer_loss"] == pytest.approx(
        joint_nll(objective, prediction, target).mean().item()
    )
    torch.testing.assert_close(
        joint_nll(objective, prediction, target), objective.score(prediction, target)
    )


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e3, 1e12])
def test_it_is_found_from_far_away_on_either_side(scale: float) -> None:
    prediction, target, moment = held_out()
    objective = make(scale * positive_definite(5))
    objective.solve_outer(prediction, target)
    found = objective.solution_covariance
    torch.testing.assert_close(found, moment, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("outer_lr", [0.1, 0.5, 1.0])
def test_repeated_outer_steps_lead_there_without_overshooting(outer_lr: float) -> None:
    prediction, target, moment = held_out()
    objective = make(300 * positive_definite(5), outer_lr=outer_lr)
    losses = [objective.outer_step(prediction, target)["bilevel/outer_loss"] for _ in range(250)]
    torch.testing.assert_close(objective.solution_covariance, moment, rtol=1e-5, atol=1e-6)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(losses))


def test_a_step_is_that_of_a_diagonal_reward_where_all_is_diagonal() -> None:
    log_u, scales = normal(1, E, D), normal(2, E, 1, D).exp()
    errors = scales * math.sqrt(D) * torch.eye(D, dtype=torch.float64).expand(E, D, D)
    prediction = Gaussian(torch.zeros(E, D, D).double(), torch.zeros(E, D, D).double())
    full = make(torch.diag_embed(log_u.exp()))
    diagonal = Bilevel(E, D, BilevelConfig(reward="diagonal")).double()
    with torch.no_grad():
        diagonal.reward.log_u.copy_(log_u)
    found, expected = (o.outer_step(prediction, errors) for o in (full, diagonal))
    expected_matrix = torch.diag_embed(diagonal.reward.log_u.detach().exp())
    torch.testing.assert_close(matrix_of(full), expected_matrix)
    for tag in ("outer_loss", "hypergradient_norm", "u_mean"):
        assert found[f"bilevel/{tag}"] == pytest.approx(expected[f"bilevel/{tag}"])
    torch.testing.assert_close(full.solution_log_var, diagonal.solution_log_var)


def solve_inner(objective: FullBilevel, matrix: Tensor) -> Tensor:
    """The inner problem's covariance for U `[D, D]`, by Newton's method on the loss itself."""
    temperature = objective.temperature
    loss = PolicyGradientLoss(FullGaussianHead(D), objective.reward, Analytic(), temperature)
    log_root, upper = full_precision_entries(matrix)
    params = {"log_root": log_root.expand(E, -1), "upper": upper.expand(E, -1)}
    zero = torch.zeros(D, dtype=torch.float64)
    rows, columns = torch.tril_indices(D, D, offset=-1)

    def inner(entries: Tensor) -> Tensor:
        """Convex in the Cholesky factor's entries: the diagonal, and what is below it."""
        diagonal, lower = entries[:D], entries[D:]
        outputs = torch.cat([zero, diagonal.log(), lower / diagonal[rows]])
        losses = loss(outputs.expand(E, 1, -1), params, None, zero.expand(E, 1, D))
        return losses[0, 0] / temperature

    entries = torch.cat([zero + 1, zero])
    while True:
        leaf = entries.requires_grad_()
        (gradient,) = torch.autograd.grad(inner(leaf), leaf, create_graph=True)
        hessian = torch.stack(
            [torch.autograd.grad(g, leaf, retain_graph=True)[0] for g in gradient]
        )
        gradient = gradient.detach()
        step = torch.linalg.solve(hessian, gradient)
        decrement = float((gradient @ step).sqrt())
        entries = leaf.detach() - step / (1 + decrement if decrement > 0.2 else 1)
        if decrement < 1e-7:  # squared by this last step
            break
    factor = entries[:D].diag()
    factor[rows, columns] = entries[D:]
    covariance: Tensor = factor @ factor.mT
    return covariance


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_hypergradient_is_the_derivative_through_a_re_solved_inner_problem(
    temperature: float,
) -> None:
    """`d L_out / dX` along symmetric X, where U moves to `R^T exp(X) R`."""
    objective = make(positive_definite(5), temperature=temperature)
    moment = held_out()[2]
    gradient, residual = objective.hypergradient(moment)
    assert residual <= 1e-12
    log_root, upper = objective.reward.log_root.detach(), objective.reward.upper.detach()
    root = FullPrecision(log_root, upper).root()[0]

    def outer_nll(x: Tensor) -> float:
        covariance = solve_inner(objective, root.mT @ torch.linalg.matrix_exp(x) @ root)
        distance = (torch.linalg.inv(covariance) * moment[0]).sum()
        return float(0.5 * (distance + torch.logdet(covariance)))

    size = 1e-5
    for seed in range(3):
        direction = normal(seed, D, D)
        direction = direction + direction.mT
        rise = outer_nll(size * direction) - outer_nll(-size * direction)
        expected = float((gradient[0] * direction).sum())
        assert rise / (2 * size) == pytest.approx(expected, rel=1e-6)


def test_the_hypergradient_is_autograds_at_the_closed_form_of_the_inner_problem() -> None:
    objective, moment = make(positive_definite(5), temperature=0.7), held_out()[2]
    matrix = matrix_of(objective).requires_grad_()
    covariance = 0.35 * torch.linalg.inv(matrix)
    distance = (torch.linalg.inv(covariance) * moment).sum()
    (in_u,) = torch.autograd.grad(0.5 * (distance + torch.logdet(covariance).sum()), matrix)
    root = torch.linalg.cholesky(matrix.detach()).mT
    torch.testing.assert_close(objective.hypergradient(moment)[0], root @ in_u @ root.mT)


def test_the_read_off_covariances_solve_the_inner_problem() -> None:
    objective = make(positive_definite(5), temperature=0.7)
    log_root = objective.reward.log_root.detach()
    assert log_root.shape == (E, D)
    matrix = matrix_of(objective)
    torch.testing.assert_close(
        objective.solution_covariance[0], solve_inner(objective, matrix[0]), rtol=1e-8, atol=1e-10
    )
    # Among diagonal covariances: no gradient in the log-variances.
    loss = PolicyGradientLoss(DiagonalGaussianHead(D), objective.reward, Analytic(), 0.7)
    log_var = objective.solution_log_var[:, None].clone().requires_grad_()
    zero = torch.zeros_like(log_var)
    inner = loss(torch.cat([zero, log_var], dim=-1), {}, None, zero.detach())
    (gradient,) = torch.autograd.grad(inner.sum(), log_var)
    assert gradient.abs().max() <= 1e-12


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_errors_are_weighted_by_a_power_of_u(exponent: float) -> None:
    """`U^(1-k)`, up to one positive factor a member; with k = 1 the loss is the MSE's."""
    matrix = positive_definite(5)
    objective = make(matrix, natural_gradient=exponent)
    prediction, target, _ = held_out()
    mean = prediction.mean.clone().requires_grad_()
    loss = objective.loss(Gaussian(mean, prediction.log_var), target)
    (gradient,) = torch.autograd.grad(loss.sum(), mean)
    weight = torch.linalg.lstsq(mean.detach() - target, gradient).solution
    values, vectors = torch.linalg.eigh(matrix)
    expected = (vectors * values[:, None] ** (1 - exponent)) @ vectors.mT
    found, expected = (w / w[:, :1, :1] for w in (weight, expected))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    if exponent == 1.0:
        torch.testing.assert_close(loss, MSE(E, D).loss(prediction, target))


def test_only_the_ratio_of_u_and_temperature_is_identifiable() -> None:
    prediction, target, _ = held_out()
    first = make(positive_definite(5))
    scaled = make(7 * positive_definite(5), temperature=7.0)
    for _ in range(3):
        torch.testing.assert_close(first.solution_covariance, scaled.solution_covariance)
        torch.testing.assert_close(first.loss(prediction, target), scaled.loss(prediction, target))
        first.outer_step(prediction, target)
        scaled.outer_step(prediction, target)


def test_rows_that_leave_directions_unseen_keep_everything_finite() -> None:
    objective = FullBilevel(E, D, BilevelConfig(reward="full"))
    prediction = Gaussian(torch.zeros(E, 1, D), torch.zeros(E, 1, D))
    for target in (torch.ones(E, 1, D), torch.zeros(E, 1, D)):
        for _ in range(50):
            objective.outer_step(prediction, target)
        objective.solve_outer(prediction, target)
        assert objective.solution_covariance.isfinite().all()
        assert objective.score(prediction, target).isfinite().all()
        assert objective.loss(prediction, target).isfinite().all()


def test_a_member_that_diverged_is_left_alone() -> None:
    prediction, target, moment = held_out()
    mean = prediction.mean.clone()
    mean[0, 0, 0] = torch.nan
    broken = Gaussian(mean, prediction.log_var)
    assert residual_moment_matrix(broken, target)[0].isnan().all()
    objective = make(positive_definite(5))
    objective.solve_outer(broken, target)
    torch.testing.assert_close(matrix_of(objective)[0], positive_definite(5)[0])
    torch.testing.assert_close(objective.solution_covariance[1], moment[1], rtol=1e-5, atol=1e-6)
    assert objective.score(broken, target).isnan().tolist() == [True, False]
