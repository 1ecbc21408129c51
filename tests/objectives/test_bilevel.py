"""The bilevel objective's own loss and steps; its theory has tests of its own."""

import itertools
from typing import Literal

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import Bilevel, make_objective
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.objectives import MSE, gaussian_nll, residual_second_moment
from tests.objectives.cases import CONFIGS, D, E, detached, draw, make

DIAGONAL = BilevelConfig(reward="diagonal")


def bilevel(log_u: Tensor | None = None, config: BilevelConfig | None = None) -> Bilevel:
    objective = Bilevel(E, D, config or DIAGONAL).double()
    if log_u is not None:
        with torch.no_grad():
            objective.reward.log_u.copy_(log_u)
    return objective


LOG_U = torch.tensor([[0.0, 2.0], [-1.0, 1.0], [3.0, -3.0]], dtype=torch.float64)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_makes_its_objective(name: str) -> None:
    objective = make_objective(CONFIGS[name], E, D)
    assert objective.name == CONFIGS[name].name


@pytest.mark.parametrize("reward", ["full", "state_dependent"])
def test_other_rewards_are_refused(reward: Literal["full", "state_dependent"]) -> None:
    with pytest.raises(ConfigError, match=f"reward='{reward}' is not constant and diagonal"):
        Bilevel(E, D, BilevelConfig(reward=reward))


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_it_starts_at_the_variance_of_normalised_targets(temperature: float) -> None:
    objective = bilevel(config=BilevelConfig(reward="diagonal", temperature=temperature))
    torch.testing.assert_close(
        objective.solution_log_var, torch.zeros(E, D).double(), rtol=0, atol=1e-6
    )


def test_a_full_natural_gradient_is_the_mse() -> None:
    prediction, target = draw()
    objective = bilevel(LOG_U, BilevelConfig(reward="diagonal", natural_gradient=1.0))
    expected = MSE(E, D).loss(prediction, target)
    torch.testing.assert_close(objective.loss(prediction, target), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("natural_gradient", [0.0, 0.5, 0.9])
def test_errors_are_weighted_by_a_power_of_u(natural_gradient: float) -> None:
    prediction, target = draw()
    objective = bilevel(LOG_U, BilevelConfig(reward="diagonal", natural_gradient=natural_gradient))
    loss = objective.loss(prediction, target).sum()
    (gradient,) = torch.autograd.grad(loss, prediction.mean)
    weights = (gradient / (prediction.mean - target)).detach()
    expected = (1 - natural_gradient) * (LOG_U[:, 1] - LOG_U[:, 0])
    found = (weights[..., 1] / weights[..., 0]).log()
    torch.testing.assert_close(found, expected[:, None].expand_as(found), rtol=1e-9, atol=1e-9)


def test_the_plain_gradient_is_that_of_the_inner_problem() -> None:
    """Up to one positive factor a member."""
    prediction, target = draw()
    objective = bilevel(
        LOG_U, BilevelConfig(reward="diagonal", natural_gradient=0.0, temperature=3.0)
    )
    inner, loss = objective.inner_loss(prediction, target).sum(), objective.loss(prediction, target)
    (exact,) = torch.autograd.grad(inner, prediction.mean)
    (found,) = torch.autograd.grad(loss.sum(), prediction.mean)
    ratio = (found / exact).flatten(1)
    assert (ratio > 0).all()
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-9, atol=0)


@pytest.mark.parametrize("natural_gradient", [0.0, 0.5, 1.0])
def test_the_weights_do_not_change_the_size_of_the_loss(natural_gradient: float) -> None:
    """Learning rates keep their meaning however large the reward's weights have become."""
    prediction, target = draw()
    config = BilevelConfig(reward="diagonal", natural_gradient=natural_gradient)
    first, scaled = bilevel(LOG_U, config), bilevel(LOG_U + 7.0, config)
    torch.testing.assert_close(first.loss(prediction, target), scaled.loss(prediction, target))
    equal_errors = detached(prediction)
    unit = torch.ones_like(target)
    torch.testing.assert_close(
        first.loss(equal_errors, equal_errors.mean + unit), torch.ones(E).double()
    )


def test_a_scalar_reward_weights_all_errors_alike() -> None:
    prediction, target = draw()
    objective = make("bilevel_scalar")
    objective.solve_outer(detached(prediction), target)
    expected = MSE(E, D).loss(prediction, target)
    torch.testing.assert_close(objective.loss(prediction, target), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["bilevel", "bilevel_scalar"])
def test_an_outer_step_lowers_the_outer_loss_by_a_share_of_the_way(name: str) -> None:
    prediction, target = draw()
    objective = make(name)
    assert isinstance(objective, Bilevel)
    losses = [
        objective.outer_step(detached(prediction), target)["bilevel/outer_loss"] for _ in range(6)
    ]
    best = objective.score(prediction, target).mean().item()
    distances = [loss - best for loss in losses]
    assert all(after < 0.9 * before for before, after in itertools.pairwise(distances))
    assert distances[-1] >= 0


def test_outer_steps_report_what_they_did() -> None:
    prediction, target = draw()
    objective = bilevel(LOG_U)
    gradient, _ = objective.hypergradient(residual_second_moment(prediction, target).detach())
    metrics = objective.outer_step(detached(prediction), target)
    assert metrics["bilevel/hypergradient_norm"] == pytest.approx(gradient.norm().item())
    assert metrics["bilevel/solver_residual"] <= 1e-12
    assert metrics["bilevel/u_mean"] == pytest.approx(objective.reward.log_u.exp().mean().item())
    nll = gaussian_nll(objective.predictive(prediction), target).mean().item()
    assert metrics["bilevel/outer_loss"] == pytest.approx(nll)


def test_outer_steps_leave_the_predictions_alone() -> None:
    prediction, target = draw()
    objective = bilevel()
    objective.outer_step(prediction, target)
    objective.solve_outer(prediction, target)
    assert prediction.mean.grad is None
    assert objective.reward.log_u.grad is None
    assert objective.reward.log_u.requires_grad
