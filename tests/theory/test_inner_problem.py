"""The inner problem's closed forms: `mu* = E[y|x]`, `Sigma* = (temperature / 2) U^-1`."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import Bilevel
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.rewards import MahalanobisReward
from mbrl_bilevel.types import Gaussian

E, D = 2, 3


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make(
    log_u: Tensor, temperature: float = 1.0, reward: Literal["scalar", "diagonal"] = "diagonal"
) -> Bilevel:
    objective = Bilevel(E, D, BilevelConfig(temperature=temperature, reward=reward)).double()
    with torch.no_grad():
        objective.reward.log_u.copy_(log_u)
    return objective


def solution(objective: Bilevel, target: Tensor) -> Gaussian:
    """One input, many targets: the inner problem's solution, `[E, N, D]`, as leaves."""
    mean = target.mean(dim=1, keepdim=True).expand_as(target).contiguous()
    log_var = objective.solution_log_var[:, None].expand_as(target).contiguous()
    return Gaussian(mean.requires_grad_(), log_var.requires_grad_())


EACH_STRUCTURE = pytest.mark.parametrize(
    ("reward", "log_u"), [("diagonal", normal(0, E, D)), ("scalar", normal(1, E, 1))]
)
EACH_TEMPERATURE = pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])


def test_the_reward_is_minus_a_weighted_squared_distance() -> None:
    reward = MahalanobisReward(2, num_members=1)
    with torch.no_grad():
        reward.log_u.copy_(torch.tensor([[2.0, 5.0]]).log())
    y_hat, y = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 3.0]]])
    assert reward(y_hat, y).item() == pytest.approx(-(2 * 4 + 5 * 1))


def test_a_scalar_reward_has_one_weight_for_all_dimensions() -> None:
    reward = MahalanobisReward(D, "scalar", initial=0.25, num_members=E)
    assert reward.log_u.shape == (E, 1)
    assert reward.log_diagonal.exp().tolist() == [[0.25] * D] * E


@EACH_STRUCTURE
def test_the_expected_reward_is_the_mean_over_samples(
    reward: Literal["scalar", "diagonal"], log_u: Tensor
) -> None:
    module = make(log_u, reward=reward).reward
    mean, y, variance = normal(2, E, 1, D), normal(3, E, 1, D), normal(4, E, 1, D).exp()
    noise = normal(5, E, 20_000, D)
    # Antithetic and standardised: the sample mean is then exact, not only in the limit.
    noise = torch.cat([noise, -noise], dim=1)
    noise = noise / noise.square().mean(dim=1, keepdim=True).sqrt()
    sampled = module(mean + variance.sqrt() * noise, y).mean(dim=1, keepdim=True)
    outputs = torch.cat([mean, variance.log()], dim=-1)
    expected = Analytic().expected_reward(DiagonalGaussianHead(D), outputs, module, y, None)
    torch.testing.assert_close(expected, sampled, rtol=1e-9, atol=0)


@EACH_TEMPERATURE
def test_the_inner_loss_is_expected_reward_and_entropy(temperature: float) -> None:
    objective = make(normal(0, E, D), temperature)
    mean, log_var, y = normal(1, 3, E, 7, D)
    normal_ = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    entropy = normal_.entropy().sum(dim=-1)  # type: ignore[no-untyped-call]
    u = objective.reward.log_diagonal.exp()[:, None]
    expected = (u * ((mean - y).square() + log_var.exp())).sum(dim=-1) - temperature * entropy
    found = objective.inner_loss(Gaussian(mean, log_var), y)
    assert found.shape == (E, 7)
    torch.testing.assert_close(found, expected)


@EACH_TEMPERATURE
@EACH_STRUCTURE
def test_the_inner_gradient_vanishes_at_the_closed_form(
    reward: Literal["scalar", "diagonal"], log_u: Tensor, temperature: float
) -> None:
    objective, target = make(log_u, temperature, reward), normal(6, E, 50, D)
    found = solution(objective, target)
    loss = objective.inner_loss(found, target).sum()
    mean_grad, log_var_grad = torch.autograd.grad(loss, [found.mean, found.log_var])
    assert mean_grad.sum(dim=1).abs().max() <= 1e-12 * temperature * 50
    assert log_var_grad.abs().max() <= 1e-14 * max(1.0, temperature)
    expected = math.log(temperature / 2) - log_u.expand(E, D)
    torch.testing.assert_close(objective.solution_log_var, expected)


@EACH_STRUCTURE
def test_every_other_gaussian_is_worse(
    reward: Literal["scalar", "diagonal"], log_u: Tensor
) -> None:
    objective, target = make(log_u, 0.7, reward), normal(6, E, 50, D)
    best = solution(objective, target)
    least = objective.inner_loss(best, target).mean(dim=1)
    for seed, size in enumerate((1e-3, 0.1, 3.0)):
        shift, stretch = size * normal(seed, 2, E, 1, D)
        for other in (
            Gaussian(best.mean + shift, best.log_var),
            Gaussian(best.mean, best.log_var + stretch),
            Gaussian(best.mean + shift, best.log_var + stretch),
        ):
            assert (objective.inner_loss(other, target).mean(dim=1) > least).all()


def test_it_is_the_reverse_kl_projection_on_a_gaussian_around_the_target() -> None:
    """`L_in = temperature KL(p || N(y, temperature / 2 U^-1))` up to a constant."""
    temperature = 0.7
    objective = make(normal(0, E, D), temperature)
    y = normal(1, E, 1, D)
    mean, log_var = normal(2, 2, E, 40, D)
    goal = torch.distributions.Normal(y, (0.5 * objective.solution_log_var[:, None]).exp())
    model = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    divergence = torch.distributions.kl_divergence(model, goal).sum(dim=-1)
    rest = objective.inner_loss(Gaussian(mean, log_var), y) - temperature * divergence
    torch.testing.assert_close(rest, rest[:, :1].expand_as(rest))


@pytest.mark.parametrize("natural_gradient", [0.0, 0.5, 1.0])
def test_the_natural_gradient_does_not_move_the_fixed_point(natural_gradient: float) -> None:
    config = BilevelConfig(reward="diagonal", natural_gradient=natural_gradient, tails=None)
    objective = Bilevel(E, D, config).double()
    with torch.no_grad():
        objective.reward.log_u.copy_(normal(0, E, D))
    target = normal(6, E, 50, D)
    mean = target.mean(dim=1, keepdim=True).requires_grad_()
    prediction = Gaussian(mean.expand_as(target), torch.zeros_like(target))
    (gradient,) = torch.autograd.grad(objective.loss(prediction, target).sum(), mean)
    assert gradient.abs().max() <= 1e-15
