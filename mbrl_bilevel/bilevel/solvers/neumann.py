"""Truncated Neumann series."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.solvers.base import LinearSolver, System, check_count, check_number

_MAX_POWER_STEPS = 20


@dataclass(frozen=True)
class NeumannSolver(LinearSolver):
    """`v = scale * sum_{j < num_terms} (I - scale H)^j b` (Lorraine et al. 2020).

    Converges if `0 < scale < 2 / lambda_max`; after k terms the residual is `(I - scale H)^k b`, so
    it falls by a factor of about `1 - scale lambda_min` a term. It equals unrolling k steps of
    gradient descent with step size `scale` at the inner solution. A term t with `t^T H t < 0` stops
    the series and sets `negative_curvature`.

    Attributes:
        num_terms: terms of the series, one product each but for the first.
        scale: None for 1 over the largest eigenvalue, estimated by at most 20 power iterations.
    """

    num_terms: int = 50
    scale: float | None = None
    name: ClassVar[str] = "neumann"

    def __post_init__(self) -> None:
        check_count(self.name, "num_terms", self.num_terms)
        if self.scale is not None:
            check_number(self.name, "scale", self.scale, 0, exclusive=True)

    def _solve(self, system: System, b: Tensor) -> tuple[Tensor, bool]:
        scale = self.scale
        if scale is None:
            largest = largest_eigenvalue(system, b)
            if largest == 0:
                return torch.zeros_like(b), True
            scale = 1 / largest
        rounding = torch.finfo(b.dtype).eps / scale
        term = b
        total = b
        for _ in range(self.num_terms - 1):
            product = system(term)
            if float(term @ product) < -rounding * float(term @ term):
                return scale * total, True
            term = term - scale * product
            total = total + term
        return scale * total, False


def largest_eigenvalue(system: System, like: Tensor) -> float:
    """The largest eigenvalue's size, from below, by power iteration from a fixed random start."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(like), generator=generator, dtype=torch.float64)
    vector = (start / torch.linalg.vector_norm(start)).to(like)
    estimate = 0.0
    for _ in range(_MAX_POWER_STEPS):
        product = system(vector)
        previous, estimate = estimate, float(torch.linalg.vector_norm(product))
        if estimate - previous <= 1e-3 * estimate:
            break
        vector = product / estimate
    return estimate
