"""Positive definite matrices U, diagonal or full, one a sample or one for all."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Precision(ABC):
    """A batch of positive definite matrices `U [*S, D, D]`."""

    @abstractmethod
    def quadratic(self, error: Tensor) -> Tensor:
        """Return `error^T U error`, `[...]`, for errors that broadcast with `[*S, D]`."""

    @abstractmethod
    def diagonal(self) -> Tensor:
        """Return U's diagonal, `[*S, D]`."""

    @abstractmethod
    def log_det(self) -> Tensor:
        """Return `log det U`, `[*S]`."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """Return U, `[*S, D, D]`."""

    def covariance(self, temperature: float) -> Tensor:
        """Return the inner solution `(temperature / 2) U^{-1}`, `[*S, D, D]`."""
        inverse: Tensor = torch.linalg.inv(self.matrix())
        return 0.5 * temperature * inverse


@dataclass(frozen=True)
class DiagonalPrecision(Precision):
    """`U = diag(exp(log_diagonal))`.

    Attributes:
        log_diagonal: `[*S, D]`.
    """

    log_diagonal: Tensor

    def quadratic(self, error: Tensor) -> Tensor:
        return (error.square() * self.log_diagonal.exp()).sum(dim=-1)

    def diagonal(self) -> Tensor:
        return self.log_diagonal.exp()

    def log_det(self) -> Tensor:
        return self.log_diagonal.sum(dim=-1)

    def matrix(self) -> Tensor:
        return torch.diag_embed(self.log_diagonal.exp())

    def log_var(self, temperature: float) -> Tensor:
        """Return the logarithm of the inner solution's variances, `[*S, D]`."""
        return math.log(temperature / 2) - self.log_diagonal


@dataclass(frozen=True)
class FullPrecision(Precision):
    """`U = R^T R` with R upper triangular with a positive diagonal: `R = diag(d) T`, T unit.

    Attributes:
        log_diagonal: `log d`, `[*S, D]`.
        upper: T's entries above the diagonal, row by row, `[*S, D (D - 1) / 2]`.
    """

    log_diagonal: Tensor
    upper: Tensor

    def root(self) -> Tensor:
        """Return R, `[*S, D, D]`."""
        size = self.log_diagonal.shape[-1]
        rows, columns = torch.triu_indices(size, size, offset=1, device=self.upper.device)
        unit = torch.eye(size, dtype=self.upper.dtype, device=self.upper.device)
        unit = unit.repeat(*self.upper.shape[:-1], 1, 1)
        unit[..., rows, columns] = self.upper
        return self.log_diagonal.exp()[..., None] * unit

    def quadratic(self, error: Tensor) -> Tensor:
        return (self.root() @ error[..., None])[..., 0].square().sum(dim=-1)

    def diagonal(self) -> Tensor:
        return self.root().square().sum(dim=-2)

    def log_det(self) -> Tensor:
        return 2 * self.log_diagonal.sum(dim=-1)

    def matrix(self) -> Tensor:
        root = self.root()
        return root.mT @ root


def full_precision_entries(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return `log_diagonal [*S, D]` and `upper [*S, D (D - 1) / 2]` of positive definite matrices.

    Raises:
        torch.linalg.LinAlgError: One is not positive definite.
    """
    # In float64: a matrix that is positive definite there may be just not so after rounding.
    root = torch.linalg.cholesky(matrix.double()).mT.to(matrix.dtype)
    diagonal = root.diagonal(dim1=-2, dim2=-1)
    size = matrix.shape[-1]
    rows, columns = torch.triu_indices(size, size, offset=1, device=matrix.device)
    return diagonal.log(), (root / diagonal[..., None])[..., rows, columns]
