"""The ways to fit a predictive Gaussian that figures 1 and 2 compare."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_bilevel.bilevel import PolicyGradientLoss, make_solver
from mbrl_bilevel.config.reproduce import SyntheticConfig
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.experiments.reproduce.synthetic import (
    NOISE_STD,
    TARGET_SIZE,
    SyntheticData,
    make_model,
    true_mean,
)
from mbrl_bilevel.experiments.reproduce.training import HEAD, learn_reward, train_model
from mbrl_bilevel.rewards import MahalanobisReward

METHODS = {
    "mse": "MSE, variance of held-out residuals",
    "nll": "NLL",
    "pg_identity": "PG, U = I",
    "pg_trace": "PG, U = (λn / 2 tr Cov y) I",
    "pg_full": "PG, U = (λ/2) Cov(y)⁻¹",
    "learned": "PG, learned U (bilevel)",
}
"""Methods and how they are labelled. `Cov y` is that of the training targets over all x."""

ENTROPY = 0.5 * (math.log(2 * math.pi * NOISE_STD**2) + 1)
"""Of the true distribution, in nats a dimension: no expected NLL is lower."""

WITHOUT_TEMPERATURE = ("mse", "nll")

Predictor = Callable[[Tensor], Tensor]
"""`x [N, 2] -> outputs [N, 4]`, as `DiagonalGaussianHead` reads them."""


@dataclass(frozen=True)
class Quality:
    """How good predictions are in expectation over targets, a mean over test inputs.

    Attributes:
        rmse: Root mean squared error a dimension; at least the noise's 1.25.
        nll: Negative log-likelihood a dimension, in nats; at least `ENTROPY`.
        kl: `KL(true || predicted)` of both dimensions together, in nats.
    """

    rmse: float
    nll: float
    kl: float


def fit(
    method: str, data: SyntheticData, config: SyntheticConfig, temperature: float, seed: int
) -> Predictor:
    """Train a fresh model by one of `METHODS`, all with the same steps and initial weights."""
    model = make_model(config, data, seed)
    if method == "learned":
        solver = make_solver("functional", compute_stationarity=False)
        model = learn_reward(model, data, config, temperature, solver).model
    elif method == "nll":
        train_model(model, lambda outputs, _, y: -HEAD.log_prob(outputs, y), data, config)
    elif method == "mse":
        train_model(model, _squared_error, data, config)
    else:
        reward = _fixed_reward(method, data, temperature)
        loss = PolicyGradientLoss(HEAD, reward, Analytic(), temperature)
        train_model(model, lambda outputs, x, y: loss(outputs, {}, x, y), data, config)
    if method != "mse":
        return torch.no_grad()(model)
    with torch.no_grad():
        x, y = data.held_out
        log_var = (HEAD.mean(model(x)) - y).square().mean(dim=0).log()
    return torch.no_grad()(
        lambda x: torch.cat([HEAD.mean(model(x)), log_var.expand(len(x), -1)], dim=-1)
    )


def judge(predictor: Predictor, x: Tensor) -> Quality:
    """Return the expected quality at test inputs `[N, 2]`: the noise is averaged exactly."""
    outputs = predictor(x)
    bias_squared = (HEAD.mean(outputs) - true_mean(x)).square()
    log_var = HEAD.log_var(outputs)
    squared_error = bias_squared + NOISE_STD**2
    nll = 0.5 * (math.log(2 * math.pi) + log_var + squared_error * (-log_var).exp())
    return Quality(
        rmse=squared_error.mean().sqrt().item(),
        nll=nll.mean().item(),
        kl=(nll.mean().item() - ENTROPY) * TARGET_SIZE,
    )


def _squared_error(outputs: Tensor, x: Tensor, y: Tensor) -> Tensor:
    del x
    # The log-variances are not judged; they are part of the sum so that they have a gradient.
    return (HEAD.mean(outputs) - y).square().sum(dim=-1) + 0 * outputs.sum(dim=-1)


def _fixed_reward(method: str, data: SyntheticData, temperature: float) -> MahalanobisReward:
    """The paper's heuristics; they know the covariance of y, not that of y given x."""
    covariance = data.training[1].mT.cov()
    if method == "pg_identity":
        return MahalanobisReward(TARGET_SIZE, "scalar", initial=1.0)
    if method == "pg_trace":
        u = temperature * TARGET_SIZE / (2 * covariance.trace().item())
        return MahalanobisReward(TARGET_SIZE, "scalar", initial=u)
    assert method == "pg_full", method
    return MahalanobisReward(TARGET_SIZE, "full", initial=0.5 * temperature * covariance.inverse())
