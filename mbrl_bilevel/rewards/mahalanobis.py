"""Mahalanobis rewards with one matrix U for all samples."""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards.base import Reward
from mbrl_bilevel.rewards.precision import (
    DiagonalPrecision,
    FullPrecision,
    Precision,
    full_precision_entries,
)

Structure = Literal["scalar", "diagonal", "full"]


class QuadraticReward(Reward):
    """`r(y_hat, y, x) = -(y_hat - y)^T U(x) (y_hat - y)`, with U(x) positive definite.

    Benechehab et al. (2025), section 4.2. A Gaussian's expectation of it has a closed form, and so
    has the inner problem: `mu* = E[y|x]`, `Sigma* = (temperature / 2) U^{-1}`.
    """

    target_size: int

    @abstractmethod
    def precision(self, x: Tensor | None = None) -> Precision:
        """Return U at inputs `x [*S, D_x]`."""

    def forward(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> Tensor:
        return -self.precision(x).quadratic(y_hat - y)


class MahalanobisReward(QuadraticReward):
    """One U for all samples: `u I`, diagonal, or full; positive definite by construction.

    Args:
        target_size: D.
        structure: `"scalar"`, `"diagonal"` or `"full"`.
        initial: U at the start: a positive number u for `u I`, or a matrix `[D, D]`, whose dtype is
            then the parameters' dtype.
        num_members: E; each member of an ensemble then has a U of its own, and predictions and
            targets are `[E, N, D]`. None: there is one model.

    Raises:
        ConfigError: A size or structure is impossible, or the matrix is not positive definite,
            not symmetric, or not of the structure asked for.
    """

    def __init__(
        self,
        target_size: int,
        structure: Structure = "diagonal",
        initial: float | Tensor = 1.0,
        num_members: int | None = None,
    ) -> None:
        super().__init__()
        if structure not in ("scalar", "diagonal", "full"):
            raise ConfigError(
                f"unknown structure {structure!r} of U; allowed: diagonal, full, scalar"
            )
        if num_members is not None and num_members < 1:
            raise ConfigError(f"num_members={num_members}; it must be at least 1")
        self.structure = structure
        self.target_size = target_size
        self.num_members = num_members
        matrix = initial_matrix(initial, target_size)
        check_structure(matrix, structure)
        batch = () if num_members is None else (num_members,)
        if structure == "full":
            log_root, upper = full_precision_entries(matrix)
            self.log_root = nn.Parameter(log_root.repeat(*batch, 1))
            self.upper = nn.Parameter(upper.repeat(*batch, 1))
        else:
            log_u = matrix.diagonal().log()[: 1 if structure == "scalar" else None]
            self.log_u = nn.Parameter(log_u.repeat(*batch, 1))

    @property
    def log_diagonal(self) -> Tensor:
        """Logarithm of a diagonal or scalar U's diagonal, `[D]` or `[E, D]`."""
        return self.log_u.expand(*self.log_u.shape[:-1], self.target_size)

    def precision(self, x: Tensor | None = None) -> Precision:
        """Return U, the same for all samples: `[D, D]`, or `[E, 1, D, D]`."""
        del x
        if self.structure == "full":
            return FullPrecision(self._per_sample(self.log_root), self._per_sample(self.upper))
        return DiagonalPrecision(self._per_sample(self.log_diagonal))

    def extra_repr(self) -> str:
        return f"{self.target_size}, structure={self.structure!r}, num_members={self.num_members}"

    def _per_sample(self, values: Tensor) -> Tensor:
        return values if self.num_members is None else values[:, None]


def initial_matrix(initial: float | Tensor, size: int) -> Tensor:
    """Return the positive definite matrix `[D, D]` that `initial` stands for.

    Raises:
        ConfigError: There is none: not positive (definite), not symmetric, of another shape.
    """
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"target_size={size!r}; it must be an integer of at least 1")
    if not isinstance(initial, Tensor):
        u = torch.tensor(float(initial))
        # In the parameters' dtype, in which a tiny u is zero and a huge one infinite.
        if not (torch.isfinite(u) and u > 0):
            raise ConfigError(f"u={initial!r}; it must be positive and finite (in {u.dtype})")
        return u * torch.eye(size)
    matrix = initial.detach().clone()
    if not matrix.is_floating_point():
        matrix = matrix.to(torch.get_default_dtype())
    if matrix.shape != (size, size):
        raise ConfigError(f"U has shape {list(matrix.shape)}; it must be [{size}, {size}]")
    if not torch.isfinite(matrix).all():
        raise ConfigError("U holds nan or infinity")
    asymmetry = float((matrix - matrix.mT).abs().max())
    if asymmetry > 1e-6 * float(matrix.abs().max()):
        raise ConfigError(f"U is not symmetric: U and its transpose differ by {asymmetry:.3g}")
    # By Cholesky: unlike small eigenvalues, its rounding does not depend on the dimensions' scales.
    if torch.linalg.cholesky_ex(matrix.double()).info != 0:
        smallest = float(torch.linalg.eigvalsh(matrix.double())[0])
        raise ConfigError(
            f"U is not positive definite: its smallest eigenvalue is {smallest:.3g}; a reward that "
            "grows with the error has no optimum"
        )
    return matrix


def check_structure(matrix: Tensor, structure: Structure) -> None:
    """Raise ConfigError unless the matrix `[D, D]` is of this structure."""
    diagonal = matrix.diagonal()
    if structure != "full" and not torch.equal(matrix, diagonal.diag()):
        raise ConfigError(f"a {structure} U cannot hold entries off the diagonal; use 'full'")
    if structure == "scalar" and not torch.equal(diagonal, diagonal[:1].expand_as(diagonal)):
        raise ConfigError("a scalar U has one number on its diagonal; use 'diagonal'")
