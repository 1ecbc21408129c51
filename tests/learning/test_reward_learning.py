"""Rewards learned end to end, against the noise that the data were made with."""

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mbrl_bilevel.bilevel import BilevelTrainer, make_solver
from mbrl_bilevel.estimators import Reparameterised
from mbrl_bilevel.heads import FullGaussianHead
from mbrl_bilevel.rewards import MahalanobisReward, NeuralReward, Reward, StateDependentReward

pytestmark = pytest.mark.learning

SEEDS = [0]


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def seeded_mlp(seed: int, *sizes: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp(*sizes)


def constant_then_to_zero(num_steps: int) -> Callable[[Optimizer], LRScheduler]:
    """A schedule: constant for two thirds of the steps, then linearly to zero."""

    def make(optimizer: Optimizer) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: min(1.0, 3 * (1 - step / num_steps)))

    return make


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


class FullU(NamedTuple):
    """Relative Frobenius errors of a learned U to `(lambda / 2) S^-1`."""

    to_residuals: float  # S: held-out residual covariance of the final model
    to_truth: float  # S: covariance of the noise


def learn_full_u(seed: int, temperature: float = 1.0) -> FullU:
    size, num_outer_steps, inner_steps = 4, 100, 10
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator))
    covariance = basis @ torch.logspace(-1, -1 + math.log10(20), size).diag() @ basis.T
    factor = torch.linalg.cholesky(covariance)
    weights = torch.randn(3, size, generator=generator)

    def data(num: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(num, 3, generator=generator)
        noise = torch.randn(num, size, generator=generator) @ factor.T
        return x, torch.tanh(x @ weights) + noise

    head = FullGaussianHead(size)
    model = seeded_mlp(seed, 3, 32, head.num_outputs)
    reward = MahalanobisReward(size, "full", initial=0.5)
    trainer = BilevelTrainer(
        model,
        reward,
        head=head,
        temperature=temperature,
        natural_gradient=0.5,
        inner_steps=inner_steps,
        inner_lr=5e-3,
        batch_size=250,
        inner_schedule=constant_then_to_zero(num_outer_steps * inner_steps),
        outer_schedule=constant_then_to_zero(num_outer_steps),
        seed=seed,
    )
    outer_data = data(5000)
    trainer.fit(data(5000), outer_data, num_outer_steps)
    with torch.no_grad():
        residuals = outer_data[1] - head.mean(model(outer_data[0]))
        u = reward.precision().matrix()
    second_moment = residuals.T @ residuals / len(residuals)
    return FullU(
        relative_error(u, temperature / 2 * torch.linalg.inv(second_moment)),
        relative_error(u, temperature / 2 * torch.linalg.inv(covariance)),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_u_finds_correlated_noise(seed: int) -> None:
    errors = learn_full_u(seed)
    assert errors.to_residuals <= 0.02
    assert errors.to_truth <= 0.15


def sigma(x: Tensor) -> Tensor:
    """Standard deviation of the noise at `x [N, 1]` in [-1, 1]: from 0.2 to 2."""
    return math.sqrt(0.4) * (0.5 * math.log(10) * torch.sin(0.5 * math.pi * x)).exp()


def heteroscedastic(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = 2 * torch.rand(num, 1, generator=generator) - 1
    return x, torch.sin(3 * x) + sigma(x) * torch.randn(num, 1, generator=generator)


def fit_heteroscedastic(
    seed: int, reward: Reward, solver: str, num_outer_steps: int, **settings: float
) -> float:
    """Fit model and reward, and return the model's NLL on fresh data."""
    generator = torch.Generator().manual_seed(seed)
    inner_steps = 10
    model = seeded_mlp(seed, 1, 32, 32, 2)
    trainer = BilevelTrainer(
        model,
        reward,
        estimator=Reparameterised(4) if isinstance(reward, NeuralReward) else None,
        solver=make_solver(solver, **settings),
        natural_gradient=0.5,
        inner_steps=inner_steps,
        inner_lr=5e-3,
        inner_schedule=constant_then_to_zero(num_outer_steps * inner_steps),
        outer_schedule=constant_then_to_zero(num_outer_steps),
        seed=seed,
    )
    inner_data = heteroscedastic(1000, generator)
    trainer.fit(inner_data, heteroscedastic(4000, generator), num_outer_steps)
    x, y = heteroscedastic(20_000, generator)
    with torch.no_grad():
        return float(-trainer.head.log_prob(model(x), y).mean())


class StateDependentU(NamedTuple):
    log_sigma_error: float  # mean |log sigma_hat - log sigma|, sigma_hat^2 = (lambda / 2) / U(x)
    test_nll: float


@cache
def learn_state_dependent_u(seed: int) -> StateDependentU:
    reward = StateDependentReward(1, 1, hidden_sizes=(32, 32), initial=0.5, seed=seed)
    test_nll = fit_heteroscedastic(seed, reward, "functional", 80)
    x = torch.linspace(-1, 1, 401)[:, None]
    with torch.no_grad():
        sigma_hat = reward.precision(x).covariance(1.0)[:, 0].sqrt()
    return StateDependentU(float((sigma_hat / sigma(x)).log().abs().mean()), test_nll)


def learn_neural_reward(seed: int) -> float:
    reward = NeuralReward(1, 1, hidden_sizes=(32, 32), initial=0.5, seed=seed)
    # Far from the inner solution the Hessian is indefinite; the ridge covers that.
    return fit_heteroscedastic(seed, reward, "cg", 80, ridge=1.0, max_steps=10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_state_dependent_u_finds_heteroscedastic_noise(seed: int) -> None:
    assert learn_state_dependent_u(seed).log_sigma_error <= 0.10


@pytest.mark.parametrize("seed", SEEDS)
def test_a_neural_reward_is_as_good_as_the_best_quadratic_one(seed: int) -> None:
    assert learn_neural_reward(seed) <= learn_state_dependent_u(seed).test_nll + 0.02
