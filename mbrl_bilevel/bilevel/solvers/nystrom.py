"""Randomised low-rank approximation of the Hessian."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.solvers.base import LinearSolver, System, check_count, check_number


@dataclass(frozen=True)
class NystromSolver(LinearSolver):
    """Inverts the Nystrom approximation `H ~ Y (Q^T Y)^+ Y^T`, `Y = H Q`, plus the ridge.

    Q `[P, rank]` is a random orthonormal basis. With the approximation's eigenvectors U and
    eigenvalues d the solution is `U (d + ridge)^-1 U^T b + (b - U U^T b) / ridge` (Woodbury); with
    `ridge = 0` the second part, on which the approximation knows nothing, is left at zero. Exact at
    full rank. For hypergradients: Hataya and Yamada 2023; the sketch: Frangella et al. 2021.
    Directions of negative curvature are flagged and left out.

    Attributes:
        rank: columns of the sketch, one product each; at most P are used.
        ridge: added to the diagonal.
        seed: of the sketch, which is the same at every call.
    """

    rank: int = 20
    ridge: float = 0.0
    seed: int = 0
    name: ClassVar[str] = "nystrom"

    def __post_init__(self) -> None:
        check_count(self.name, "rank", self.rank)
        check_number(self.name, "ridge", self.ridge, 0)
        check_count(self.name, "seed", self.seed, minimum=0)

    def _solve(self, system: System, b: Tensor) -> tuple[Tensor, bool]:
        rank = min(self.rank, len(b))
        generator = torch.Generator().manual_seed(self.seed)
        sample = torch.randn(len(b), rank, generator=generator, dtype=torch.float64)
        basis = torch.linalg.qr(sample).Q.to(b)
        products = torch.stack([system(column) for column in basis.mT.contiguous()], dim=1)

        # From here on in float64; only the products carry the rounding of b's dtype.
        eps = torch.finfo(b.dtype).eps
        basis, rhs = basis.double(), b.double()
        sketch = products.double() - self.ridge * basis
        core = basis.mT @ sketch
        eigenvalues, eigenvectors = torch.linalg.eigh(0.5 * (core + core.mT))
        rounding = rank * eps * max(float(eigenvalues.abs().max()), self.ridge)
        negative_curvature = bool(eigenvalues[0] + self.ridge < -rounding)
        kept = eigenvalues > rounding
        factor = sketch @ (eigenvectors[:, kept] / eigenvalues[kept].sqrt())
        u, singular_values, _ = torch.linalg.svd(factor, full_matrices=False)
        coordinates = u.mT @ rhs
        v = u @ (coordinates / (singular_values.square() + self.ridge))
        if self.ridge > 0 and u.shape[1] < len(b):
            v = v + (rhs - u @ coordinates) / self.ridge
        return v.to(b), negative_curvature
