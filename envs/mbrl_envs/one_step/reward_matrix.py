"""The matrix U of a reward `-(y_hat - y)^T U (y_hat - y)`, from numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards.mahalanobis import initial_matrix

Matrix = NDArray[np.floating[Any]]


def constant_u(u: ArrayLike, size: int, names: Sequence[str] = ()) -> Matrix:
    """Return the positive definite U `[D, D]` that numbers stand for.

    Args:
        u: A number u for `u I`, a diagonal `[D]`, or the matrix itself `[D, D]`.
        size: D.
        names: What else the caller would have taken, for messages.

    Raises:
        ConfigError: They are no numbers, of another size, or not positive definite or symmetric.
    """
    try:
        numbers = torch.as_tensor(np.asarray(u, dtype=np.float64))
    except (TypeError, ValueError):
        allowed = [*names, "a number", f"a diagonal [{size}]", f"a matrix [{size}, {size}]"]
        raise ConfigError(f"u={u!r}; allowed: {', '.join(allowed)}") from None
    if numbers.ndim == 0:
        numbers = numbers.repeat(size)
    if numbers.ndim == 1:
        if len(numbers) != size:
            raise ConfigError(f"u is a diagonal of {len(numbers)} numbers; it must have {size}")
        numbers = numbers.diag()
    matrix: Matrix = initial_matrix(numbers, size).numpy()
    return matrix


def trace_u(covariance: Matrix, temperature: float) -> Matrix:
    """Return `(temperature n / 2 tr S) I` `[n, n]`, for the targets' covariance S.

    Benechehab et al. (2025): the best multiple of the identity, if S were that of the residuals.
    """
    size = len(covariance)
    identity: Matrix = np.eye(size)
    return temperature * size / (2 * float(np.trace(covariance))) * identity


def check_temperature(temperature: float) -> None:
    """Raise ConfigError unless it is positive and finite."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature={temperature!r}; it must be positive and finite")
