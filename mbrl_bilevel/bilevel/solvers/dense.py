"""The explicit Hessian: exact, and the reference for the others."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.solvers.base import LinearSolver, System, check_number
from mbrl_bilevel.errors import ConfigError

MAX_SIZE = 10_000
"""Inner parameters beyond which the P-by-P matrix is refused (800 MB in float64)."""


@dataclass(frozen=True)
class DenseSolver(LinearSolver):
    """Forms `H + ridge I` from P products and solves it directly.

    A matrix singular to rounding (overparameterised models, softmax logits) is solved by its
    pseudo-inverse: exact if b lies in its range, else the residual tells. An indefinite one is
    flagged from its eigenvalues, and solved all the same.

    Attributes:
        ridge: added to the diagonal.
    """

    ridge: float = 0.0
    name: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        check_number(self.name, "ridge", self.ridge, 0)

    def _solve(self, system: System, b: Tensor) -> tuple[Tensor, bool]:
        if len(b) > MAX_SIZE:
            raise ConfigError(
                f"solver 'dense' would form a {len(b)} x {len(b)} Hessian; the limit is {MAX_SIZE} "
                "inner parameters. Use 'cg', 'nystrom' or 'functional'"
            )
        rows = [system(unit) for unit in torch.eye(len(b), dtype=b.dtype, device=b.device)]
        matrix = torch.stack(rows)
        return solve_symmetric(0.5 * (matrix + matrix.mT), b)


def solve_symmetric(matrix: Tensor, b: Tensor) -> tuple[Tensor, bool]:
    """Solve symmetric `matrix [..., n, n]` for `b [..., n]`, and say if any eigenvalue is negative.

    Batches in which some matrix is singular to rounding are solved by pseudo-inverse.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
    size = eigenvalues.abs().amax(-1, keepdim=True)
    rounding = matrix.shape[-1] * torch.finfo(matrix.dtype).eps * size
    negative = bool((eigenvalues < -rounding).any())
    regular = eigenvalues.abs() > rounding
    if regular.all():
        # More accurate than going through the eigenvectors when ill-conditioned.
        return torch.linalg.solve(matrix, b.unsqueeze(-1)).squeeze(-1), negative
    inverse = torch.where(regular, 1 / eigenvalues, 0)
    coordinates = (eigenvectors.mT @ b.unsqueeze(-1)).squeeze(-1)
    return (eigenvectors @ (inverse * coordinates).unsqueeze(-1)).squeeze(-1), negative
