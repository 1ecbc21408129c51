"""Hypergradients through each estimator, at the values of the theory.

Section 2: `dNLL / du = s^2 / temperature - 1 / (2 u)`, here with temperature 1, s^2 = 1.5625.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import BilevelProblem, PolicyGradientLoss, hypergradient, make_solver
from mbrl_bilevel.estimators import Analytic, Dice, Estimator, Reparameterised, ScoreFunction
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.rewards import MahalanobisReward

Params = dict[str, Tensor]

VALUES = pytest.mark.parametrize(("u", "expected"), [(1.0, 1.0625), (0.6, 0.7292), (0.1, -3.4375)])
Y = torch.tensor([[6 - 1.25], [6 + 1.25]], dtype=torch.float64)
X = torch.zeros(2, 1, dtype=torch.float64)
HEAD = DiagonalGaussianHead(1)


def slope(inner_loss: Callable[[Tensor, Params, Tensor, Tensor], Tensor], u: float) -> float:
    """`dNLL / du` for one constant Gaussian at the inner solution."""

    def inner(theta: Params, phi: Params) -> Tensor:
        return inner_loss(theta["z"].expand(2, 2), phi, X, Y).mean()

    def outer(theta: Params, _phi: Params) -> Tensor:
        return -HEAD.log_prob(theta["z"].expand(2, 2), Y).mean()

    theta = {"z": torch.tensor([6.0, -math.log(2 * u)], dtype=torch.float64)}
    phi = {"log_u": torch.tensor([math.log(u)], dtype=torch.float64)}
    result = hypergradient(BilevelProblem(inner, outer), theta, phi, make_solver("dense"))
    return result.grad["log_u"].item() / u


def loss_of(estimator: Estimator) -> PolicyGradientLoss:
    return PolicyGradientLoss(HEAD, MahalanobisReward(1).double(), estimator)


@VALUES
def test_the_theory_with_analytic(u: float, expected: float) -> None:
    assert slope(loss_of(Analytic()), u) == pytest.approx(expected, rel=1e-4)


@VALUES
def test_the_theory_with_reparameterised(u: float, expected: float) -> None:
    assert slope(loss_of(Reparameterised(50_000)), u) == pytest.approx(expected, rel=0.01)


@VALUES
def test_the_theory_with_dice(u: float, expected: float) -> None:
    """Its samples are constants, yet the second derivatives are right: up to some 2 % of noise."""
    found = [slope(loss_of(Dice(100_000, seed)), u) for seed in range(3)]
    assert sum(found) / 3 == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize(("with_baseline", "wrong"), [(False, -0.34), (True, -1.07)])
def test_differentiating_a_score_function_surrogate_twice_flips_the_sign(
    with_baseline: bool, wrong: float
) -> None:
    """Theory, section 4: +1.06 is true at u = 1.

    The surrogate `r log p` with constant samples has the right gradient, but lacks the part of the
    second derivatives that comes from the samples' distribution.
    """
    reward = MahalanobisReward(1).double()

    def surrogate(z: Tensor, phi: Params, _x: Tensor, y: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        samples = HEAD.sample(z, HEAD.noise(z, 200_000, generator)).detach()
        rewards = reward.using(phi, lambda r: r(samples, y))
        if with_baseline:
            rewards = rewards - rewards.mean(dim=0)
        expected_reward = (rewards * HEAD.log_prob(z, samples)).mean(dim=0)
        return -expected_reward - HEAD.entropy(z)

    assert slope(surrogate, 1.0) == pytest.approx(wrong, abs=0.05)


def test_our_score_function_would_miss_the_reward_altogether() -> None:
    """Its advantages are constants, so that the reward's own gradient is right the first time."""
    loss = loss_of(ScoreFunction(1000))
    assert slope(lambda *arguments: loss(*arguments), 1.0) == 0.0
