"""Conjugate gradient."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.solvers.base import LinearSolver, System, check_count, check_number


@dataclass(frozen=True)
class CGSolver(LinearSolver):
    """Conjugate gradient from v = 0 (Hestenes and Stiefel 1952): the default implicit solver.

    Exact after at most P steps on a positive definite system, in far fewer if the eigenvalues
    cluster; on a singular one whose range contains b it finds the solution of least norm. Along a
    direction p without positive curvature, `p^T (H + ridge I) p <= 0` up to rounding, it stops,
    returns the iterate reached so far (v = 0 if that is the first direction) and sets
    `negative_curvature`. A `ridge` above the most negative eigenvalue's size cures that, at the
    price of a biased hypergradient.

    Attributes:
        ridge: added to the diagonal.
        max_steps: at most so many steps, each one product.
        tol: relative residual to stop at, but no less than 100 rounding errors of the dtype.
    """

    ridge: float = 0.0
    max_steps: int = 100
    tol: float = 1e-10
    name: ClassVar[str] = "cg"

    def __post_init__(self) -> None:
        check_number(self.name, "ridge", self.ridge, 0)
        check_count(self.name, "max_steps", self.max_steps)
        check_number(self.name, "tol", self.tol, 0, exclusive=True)

    def _solve(self, system: System, b: Tensor) -> tuple[Tensor, bool]:
        # Half of tol, as the recurrence's residual drifts away from the true one.
        target = (0.5 * self.effective_tol(b.dtype)) ** 2
        eps = torch.finfo(b.dtype).eps
        v = torch.zeros_like(b)
        residual = b
        direction = b
        residual_sq = float(residual @ residual)
        largest = 0.0
        for _ in range(self.max_steps):
            product = system(direction)
            curvature = float(direction @ product)
            length_sq = float(direction @ direction)
            largest = max(largest, curvature / length_sq)
            if curvature <= eps * largest * length_sq:
                return v, True
            step = residual_sq / curvature
            v = v + step * direction
            residual = residual - step * product
            previous_sq, residual_sq = residual_sq, float(residual @ residual)
            if residual_sq <= target:
                break
            direction = residual + (residual_sq / previous_sq) * direction
        return v, False
