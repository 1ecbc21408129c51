"""A log-variance head, solved on held-out data: a convex problem."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mbrl_bilevel.objectives.base import LOG_2PI

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Pulls towards the head as it was, in units of the features' mean square; cross-validated."""
NUM_STEPS = 10
"""Steps of Fisher scoring at most; it converges in fewer."""
TOLERANCE = 1e-4
"""Least improvement of a step worth going on for, in nats per dimension."""


@dataclass(frozen=True)
class HeadProblem:
    """Negative log-likelihood per dimension, in a head, everything else frozen.

    Attributes:
        features: Of the last hidden layer, and a one at the end, `[N, F]`.
        squared_residuals: Of the mean, `[N, D]`.
        bound: From the head's outputs to log-variances.
        weights: Of the rows, `[N, 1]`.
        penalties: How strongly the ridge holds each feature's row of a head, `[F, 1]`.
    """

    features: Tensor
    squared_residuals: Tensor
    bound: Callable[[Tensor], Tensor]
    weights: Tensor
    penalties: Tensor

    @property
    def halves(self) -> tuple[slice, slice]:
        """The rows in two parts that follow one another: episodes are mostly on one side."""
        half = len(self.features) // 2
        return slice(0, half), slice(half, None)

    def rows(self, rows: slice) -> "HeadProblem":
        parts = (self.squared_residuals[rows], self.bound, self.weights[rows], self.penalties)
        return HeadProblem(self.features[rows], *parts)

    def log_var(self, head: Tensor) -> Tensor:
        """`[N, D]` for a head `[F, D]`."""
        return self.bound(self.features @ head)

    def row_nll(self, head: Tensor) -> Tensor:
        """`[N, D]` for a head `[F, D]`."""
        log_var = self.log_var(head)
        return 0.5 * (LOG_2PI + log_var + self.squared_residuals * (-log_var).exp())

    def nll(self, head: Tensor) -> Tensor:
        """The weighted mean over rows, `[D]`."""
        return (self.weights * self.row_nll(head)).mean(dim=0)

    def gradient(self, head: Tensor) -> Tensor:
        """Of `nll`, in the head."""
        with torch.enable_grad():
            outputs = (self.features @ head).requires_grad_()
            log_var = self.bound(outputs)
            (slope,) = torch.autograd.grad(log_var.sum(), outputs)
        misfit = 0.5 * slope * (1 - self.squared_residuals * (-log_var.detach()).exp())
        return self.features.mT @ (self.weights * misfit) / len(misfit)

    @cached_property
    def fisher(self) -> Tensor:
        """The expected Hessian `[F, F]`, float64; the same for all dimensions."""
        features = self.features.double()
        return 0.5 * (features * self.weights).mT @ features / len(features)


@torch.no_grad()
def solve_head(features: Tensor, squared_residuals: Tensor, start: Tensor) -> Tensor:
    """Return the log-variance head that makes residuals of other data likely.

    In the head's parameters the negative log-likelihood is convex, and its expected Hessian
    `F^T F / (2 N)` with the features F is the same for all dimensions: Fisher scoring needs one
    factorisation. The head is held near where training left it by a ridge that two-fold
    cross-validation chooses; a head that no ridge improves stays.

    Args:
        features: What the head is linear in, `[N, F]`, with a one at the end.
        squared_residuals: Of the mean, `[N, D]`.
        start: The head that training left, `[F, D]`; log-variances are `features @ head`.
    """
    everything, alike = torch.ones_like(features[:, :1]), torch.ones_like(start[:, :1])
    problem = HeadProblem(features, squared_residuals, lambda log_var: log_var, everything, alike)
    return cross_validated(problem, start)[0]


def cross_validated(problem: HeadProblem, start: Tensor) -> tuple[Tensor, float | None]:
    """The solution `[F, D]` with the ridge that predicts the other half of the rows best.

    Returns:
        Head and ridge; None with the head at the start.
    """
    if len(problem.features) < 2:
        return start, None
    first, second = (problem.rows(rows) for rows in problem.halves)
    folds = ((first, second), (second, first))

    def judged(ridge: float) -> float:
        scores = [
            other.nll(fisher_scoring(one, start, start, ridge)).mean() for one, other in folds
        ]
        return float(torch.stack(scores).sum())

    scores = {ridge: judged(ridge) for ridge in RIDGES}
    best = min(scores, key=lambda ridge: scores[ridge])
    unchanged = float(torch.stack([other.nll(start).mean() for _, other in folds]).sum())
    if not scores[best] < unchanged:
        return start, None
    return fisher_scoring(problem, start, start, best), best


def fisher_scoring(
    problem: HeadProblem, centre: Tensor, start: Tensor, ridge: float, num_steps: int = NUM_STEPS
) -> Tensor:
    """Fisher scoring with a step size for each dimension, halved where it does not improve.

    The Hessian is that of outputs within their bounds, where `d log_var / d output` is one.

    Args:
        problem: Of one member.
        centre: What the ridge pulls to.
        start: Where to begin.
        ridge: Strength of the pull.
        num_steps: At most.
    """
    fisher = problem.fisher.clone()
    pull = 0.5 * ridge * problem.features.square().mean() * problem.penalties
    fisher.diagonal().add_(pull[:, 0])
    factor = torch.linalg.cholesky(fisher)

    def loss(head: Tensor) -> Tensor:
        return problem.nll(head) + 0.5 * (pull * (head - centre).square()).sum(dim=0)

    # With variances far too small for the residuals a first step would go far too far, and the way
    # back is long. The best shift of a dimension's log-variances is known.
    surprise = problem.squared_residuals * (-problem.log_var(start)).exp()
    shift = ((problem.weights * surprise).mean(dim=0) / problem.weights.mean()).log()
    shifted = start.clone()
    shifted[-1] += shift.nan_to_num(0.0, 0.0, 0.0)
    before, after = loss(start), loss(shifted)
    head = torch.where(after < before, shifted, start)
    latest = torch.where(after < before, after, before)
    step_size = torch.ones_like(latest)
    for _ in range(num_steps):
        gradient = problem.gradient(head) + pull * (head - centre)
        direction = torch.cholesky_solve(gradient.double(), factor).to(head.dtype)
        candidate = head - step_size * direction
        value = loss(candidate)
        better = value < latest  # False where it is not finite
        head = torch.where(better, candidate, head)
        improvement = torch.where(better, latest - value, 0.0)
        latest = torch.where(better, value, latest)
        step_size = torch.where(better, (2 * step_size).clamp_max(1.0), 0.5 * step_size)
        if better.all() and improvement.max() < TOLERANCE:
            break
    return head
