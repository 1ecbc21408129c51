"""Full predictive covariances around the variances that a model was trained to predict."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_bilevel.data import Transitions
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.experiments.fit.predicting import normalised, predictions
from mbrl_bilevel.objectives import MIN_VARIANCE, floor_eigenvalues

MIN_CORRELATION_EIGENVALUE = 1e-6
"""Least eigenvalue of the residuals' correlations: dimensions may determine each other."""
MAX_ROUNDS = 100
"""Rounds of expectation maximisation at most."""
LEAST_RESPONSIBILITY = 1e-3
"""Added to a member's for every row, so that one that is hardly responsible does not collapse."""
TOLERANCE = 1e-4
"""Least improvement of a round worth going on for, in nats per dimension."""
LEVEL, MAX_COVERAGE = 0.9, 0.92
"""Where variances are calibrated, intervals of this level may hold so much with an M."""


@dataclass(frozen=True)
class FullHead:
    """Covariances `D(x)^{1/2} M D(x)^{1/2}`: predicted variances D(x), a constant M a member.

    M is no correlation matrix: its diagonal says by how much residuals exceed the predicted
    variances, so it also recalibrates them.

    Attributes:
        factor: Lower Cholesky factor of M, `[E, D, D]`.
    """

    factor: Tensor

    def log_var(self, log_var: Tensor) -> Tensor:
        """Return the log-variances on the covariances' diagonal for those of D(x), `[E, N, D]`."""
        return log_var + self.factor.square().sum(dim=-1).log()[:, None]

    def scale_tril(self, log_var: Tensor) -> Tensor:
        """Return the covariances' Cholesky factors `[E, N, D, D]` for log-variances of D(x)."""
        return (0.5 * log_var).exp()[..., None] * self.factor[:, None]

    def correlate(self, noise: Tensor, members: Tensor) -> Tensor:
        """Turn standard normal noise `[P, N, D]` into that of covariance M, p by `members[p]`."""
        return noise @ self.factor[members].mT


@dataclass(frozen=True)
class _Residuals:
    """Of every member's mean on held-out data, in float64.

    Attributes:
        standardised: Over the predicted standard deviations, `[E, N, D]`.
        log_det: `log det D(x)`, `[E, N]`.
        variance: Mean of the predicted variances, `[E, D]`.
    """

    standardised: Tensor
    log_det: Tensor
    variance: Tensor

    def factor(self, weights: Tensor) -> Tensor:
        """Cholesky factors `[E, D, D]` of the mean of `z z^T` with weights `[E, N]`.

        No dimension's variance is below `MIN_VARIANCE` on average.
        """
        z = self.standardised
        moment = (weights[..., None] * z).mT @ z / weights.sum(dim=1)[:, None, None]
        diagonal = moment.diagonal(dim1=-2, dim2=-1)
        diagonal.clamp_min_(MIN_VARIANCE / self.variance)
        std = diagonal.sqrt()
        correlation = moment / (std[..., None] * std[:, None])
        correlation = floor_eigenvalues(correlation, MIN_CORRELATION_EIGENVALUE)
        factor: Tensor = std[..., None] * torch.linalg.cholesky(correlation)
        return factor

    def log_probs(self, factor: Tensor) -> Tensor:
        """Log densities of the targets under each member, `[E, N]`, but for a constant."""
        whitened: Tensor = torch.linalg.solve_triangular(factor, self.standardised.mT, upper=False)
        log_det = self.log_det + 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)[:, None]
        log_probs: Tensor = -0.5 * (whitened.square().sum(dim=1) + log_det)
        return log_probs


@torch.no_grad()
def fit_full_head(model: DynamicsModel, held_out: Transitions) -> FullHead:
    """Return the M of each member, for its mean and D(x) as they are.

    An objective whose inner solution is a full covariance has that one. For all others the
    ensemble's likelihood on held-out data is maximised over positive definite M. For a single
    model that is the second moment of the residuals over `D(x)^{1/2}`, exactly. (A correlation
    matrix M would have no closed form.) For several it is that of the rows a member is
    responsible for, by expectation maximisation that starts from each member by itself: members
    that are each as uncertain as their own errors make too uncertain a mixture.

    Errors have heavier tails than Gaussians, and the joint likelihood pays for those with an M that
    is too wide. Where D(x) is calibrated (a reward that is the log-variance head), M therefore
    keeps its correlations, and as much of its diagonal as leaves 90% intervals calibrated.
    """
    solution = model.objective.solution_covariance
    if solution is not None:
        log_var = model.objective.solution_log_var
        assert log_var is not None
        factor = torch.linalg.cholesky(solution.double())
        return FullHead((factor * (-0.5 * log_var.double()).exp()[..., None]).to(solution.dtype))
    x, y = normalised(model, held_out)
    residuals = _residuals(model, x, y)
    factor = residuals.factor(torch.ones_like(residuals.log_det))
    latest = -math.inf
    for _ in range(MAX_ROUNDS if len(factor) > 1 else 0):
        log_probs = residuals.log_probs(factor)
        value = float(log_probs.logsumexp(dim=0).mean()) / y.shape[1]
        if value < latest + TOLERANCE:
            break
        latest = value
        factor = residuals.factor(log_probs.softmax(dim=0) + LEAST_RESPONSIBILITY)
    if model.objective.log_var_head_is_reward:
        factor = _within_calibration(factor, residuals.standardised)
    return FullHead(factor.to(x.dtype))


def _within_calibration(factor: Tensor, standardised: Tensor) -> Tensor:
    """Return factors whose diagonals have the largest power that is calibrated, by bisection.

    Args:
        factor: Of M, `[E, D, D]`.
        standardised: Residuals over the predicted standard deviations, `[E, N, D]`.
    """
    log_std = 0.5 * factor.square().sum(dim=-1).log()

    def coverage(power: float) -> float:
        quantile = torch.special.ndtr(standardised * (-power * log_std).exp()[:, None]).mean(dim=0)
        return float(((quantile - 0.5).abs() < LEVEL / 2).double().mean())

    if coverage(1.0) <= MAX_COVERAGE:
        return factor
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if coverage(middle) <= MAX_COVERAGE else (low, middle)
    return factor * ((low - 1) * log_std).exp()[..., None]


def _residuals(model: DynamicsModel, x: Tensor, y: Tensor) -> _Residuals:
    standardised, log_vars = [], []
    for rows, prediction in predictions(model, x):
        log_var = prediction.log_var.double()
        standardised.append((y[rows] - prediction.mean).double() * (-0.5 * log_var).exp())
        log_vars.append(log_var)
    log_var = torch.cat(log_vars, dim=1)
    return _Residuals(
        torch.cat(standardised, dim=1), log_var.sum(dim=-1), log_var.exp().mean(dim=1)
    )
