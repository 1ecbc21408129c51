"""The outer optimum `u* = temperature / (2 s^2)` of a reward without tails, and the way there."""

import itertools
import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import Bilevel
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import Gaussian

Structure = Literal["scalar", "diagonal"]
EACH_STRUCTURE = pytest.mark.parametrize("structure", ["diagonal", "scalar"])
SCALES = torch.tensor([[0.1, 1.0, 4.0], [2.0, 0.5, 0.01]], dtype=torch.float64)
E, D = SCALES.shape


def make(structure: Structure = "diagonal", temperature: float = 1.0) -> Bilevel:
    config = BilevelConfig(reward=structure, temperature=temperature, tails=None)
    return Bilevel(E, D, config).double()


def held_out(seed: int = 0) -> tuple[Gaussian, Tensor]:
    """Means that miss the targets by noise of known scale; the log-variance must not matter."""
    generator = torch.Generator().manual_seed(seed)
    mean, noise = torch.randn(2, E, 64, D, generator=generator, dtype=torch.float64)
    noise = noise / noise.square().mean(dim=1, keepdim=True).sqrt()
    return Gaussian(mean, torch.full_like(mean, 9.0)), mean + SCALES[:, None] * noise


def expected_u(structure: Structure, temperature: float) -> Tensor:
    """`temperature / (2 s_i^2)`, or `temperature n / (2 tr S)`, `[E, D]`."""
    second_moment = SCALES.square()
    if structure == "scalar":
        second_moment = second_moment.mean(dim=1, keepdim=True).expand(E, D)
    return temperature / (2 * second_moment)


def start_at(objective: Bilevel, log_u: float | Tensor) -> Bilevel:
    with torch.no_grad():
        objective.reward.log_u.copy_(torch.as_tensor(log_u, dtype=torch.float64))
    return objective


@EACH_STRUCTURE
@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_the_outer_problem_is_solved(structure: Structure, temperature: float) -> None:
    objective, (prediction, target) = make(structure, temperature), held_out()
    metrics = objective.solve_outer(prediction, target)
    found = objective.reward.log_diagonal.exp()
    torch.testing.assert_close(found, expected_u(structure, temperature), rtol=1e-5, atol=0)
    assert metrics["bilevel/hypergradient_norm"] < 1e-5


@EACH_STRUCTURE
@pytest.mark.parametrize("log_start", [-40.0, -5.0, 5.0, 40.0])
def test_it_is_found_from_far_away_on_either_side(structure: Structure, log_start: float) -> None:
    objective, (prediction, target) = start_at(make(structure), log_start), held_out()
    objective.solve_outer(prediction, target)
    found = objective.reward.log_diagonal.exp()
    torch.testing.assert_close(found, expected_u(structure, 1.0), rtol=1e-5, atol=0)


@EACH_STRUCTURE
def test_members_and_dimensions_may_start_on_different_sides(structure: Structure) -> None:
    start = torch.tensor([[-9.0, 9.0, 0.0], [30.0, -30.0, 2.0]])
    objective = start_at(make(structure), start if structure == "diagonal" else start[:, :1])
    prediction, target = held_out()
    objective.solve_outer(prediction, target)
    found = objective.reward.log_diagonal.exp()
    torch.testing.assert_close(found, expected_u(structure, 1.0), rtol=1e-5, atol=0)


@EACH_STRUCTURE
@pytest.mark.parametrize("outer_lr", [0.1, 0.5, 1.0])
def test_repeated_outer_steps_lead_there_too(structure: Structure, outer_lr: float) -> None:
    """Without overshooting: the outer loss never rises."""
    config = BilevelConfig(reward=structure, outer_lr=outer_lr, tails=None)
    objective = start_at(Bilevel(E, D, config).double(), 6.0)
    prediction, target = held_out()
    losses = [objective.outer_step(prediction, target)["bilevel/outer_loss"] for _ in range(250)]
    found = objective.reward.log_diagonal.exp()
    torch.testing.assert_close(found, expected_u(structure, 1.0), rtol=1e-5, atol=0)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(losses))


@EACH_STRUCTURE
def test_a_members_optimum_is_its_own(structure: Structure) -> None:
    prediction, target = held_out()
    other_target = target.clone()
    other_target[1] = prediction.mean[1] + 7.0
    first, second = make(structure), make(structure)
    for objective, y in ((first, target), (second, other_target)):
        objective.outer_step(prediction, y)
    assert torch.equal(first.reward.log_u[0], second.reward.log_u[0])
    assert not torch.equal(first.reward.log_u[1], second.reward.log_u[1])
    for objective, y in ((first, target), (second, other_target)):
        objective.solve_outer(prediction, y)
    torch.testing.assert_close(first.reward.log_u[0], second.reward.log_u[0], rtol=0, atol=1e-5)
    assert not torch.equal(first.reward.log_u[1], second.reward.log_u[1])


@EACH_STRUCTURE
def test_no_other_reward_makes_held_out_data_more_likely(structure: Structure) -> None:
    objective, (prediction, target) = make(structure), held_out()
    objective.solve_outer(prediction, target)
    optimum = objective.reward.log_u.detach().clone()

    def nll(log_u: Tensor) -> Tensor:
        start_at(objective, log_u)
        return gaussian_nll(objective.predictive(prediction), target).mean(dim=(1, 2))

    least = nll(optimum)
    for shift in (-1.0, -0.05, 0.05, 1.0):
        assert (nll(optimum + shift) > least).all()


@EACH_STRUCTURE
@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e3])
def test_only_the_ratio_of_u_and_temperature_is_identifiable(
    structure: Structure, factor: float
) -> None:
    prediction, target = held_out()
    first, scaled = make(structure, 1.0), make(structure, factor)
    start_at(first, 1.5)
    start_at(scaled, 1.5 + math.log(factor))
    for _ in range(3):
        torch.testing.assert_close(first.solution_log_var, scaled.solution_log_var)
        torch.testing.assert_close(first.loss(prediction, target), scaled.loss(prediction, target))
        first.outer_step(prediction, target)
        scaled.outer_step(prediction, target)
    shift = scaled.reward.log_u - first.reward.log_u
    torch.testing.assert_close(shift, torch.full_like(shift, math.log(factor)))
    inner = Gaussian(prediction.mean, first.solution_log_var[:, None].expand_as(target))
    log_var = inner.log_var.clone().requires_grad_()
    gradients = [
        torch.autograd.grad(o.inner_loss(Gaussian(inner.mean, log_var), target).sum(), log_var)[0]
        for o in (first, scaled)
    ]
    torch.testing.assert_close(gradients[1], factor * gradients[0], rtol=1e-6, atol=1e-9 * factor)


def test_it_is_the_residual_covariance_that_counts_not_the_targets() -> None:
    """The paper's synthetic data: `y = x + 6 + 1.25 eps`, `x ~ U(-5, 5)^2`; u* = 0.32."""
    generator = torch.Generator().manual_seed(0)
    x = 10 * torch.rand(1, 20_000, 2, generator=generator) - 5
    y = x + 6 + 1.25 * torch.randn(x.shape, generator=generator)
    objective = Bilevel(1, 2, BilevelConfig(reward="scalar", tails=None))
    objective.solve_outer(Gaussian(x + 6, torch.zeros_like(x)), y)
    assert objective.reward.log_u.exp().item() == pytest.approx(0.32, rel=0.03)
    marginal = 1 / (2 * y.var(dim=1).mean().item())
    assert 0.32 / marginal == pytest.approx(6.3, rel=0.03)


def test_perfect_predictions_leave_a_finite_reward() -> None:
    objective, (prediction, _) = (
        Bilevel(E, D, BilevelConfig(reward="diagonal", tails=None)),
        held_out(),
    )
    single = Gaussian(prediction.mean.float(), prediction.log_var.float())
    objective.solve_outer(single, single.mean)
    assert objective.reward.log_u.isfinite().all()
    assert objective.score(single, single.mean).isfinite().all()
