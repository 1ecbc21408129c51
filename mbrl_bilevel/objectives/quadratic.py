"""Residuals and matrices with entries off the diagonal."""

import torch
from torch import Tensor

from mbrl_bilevel.objectives.mse import MIN_VARIANCE
from mbrl_bilevel.types import Gaussian


def quadratic_loss(prediction: Gaussian, target: Tensor, matrix: Tensor) -> Tensor:
    """Return `(mean - y)^T A (mean - y) / D`, averaged over samples, `[E]`.

    Args:
        prediction: `[E, N, D]`; its log-variance is not used.
        target: `[E, N, D]` or `[N, D]`.
        matrix: A, `[E, D, D]` or `[D, D]`.
    """
    error = prediction.mean - target
    return ((error @ matrix) * error).mean(dim=(1, 2))


def residual_moment_matrix(prediction: Gaussian, target: Tensor) -> Tensor:
    """Return the mean of `error error^T` of each member, `[E, D, D]`, in float64.

    Eigenvalues are at least `MIN_VARIANCE`, as `residual_second_moment` is.
    """
    error = (prediction.mean - target).double()
    return floor_eigenvalues(error.mT @ error / error.shape[1], MIN_VARIANCE)


def floor_eigenvalues(matrix: Tensor, least: float) -> Tensor:
    """Return symmetric matrices `[*S, D, D]` with smaller eigenvalues raised to `least`.

    A matrix that is not finite becomes nan, for the caller's checks to find.
    """
    finite = matrix.isfinite().all(dim=-1).all(dim=-1)[..., None, None]
    eigenvalues, vectors = torch.linalg.eigh(matrix.where(finite, 0.0))
    floored: Tensor = (vectors * eigenvalues.clamp_min(least)[..., None, :]) @ vectors.mT
    return floored.where(finite, torch.nan)
