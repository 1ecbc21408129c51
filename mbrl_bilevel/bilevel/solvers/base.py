"""What all solvers share: linear solvers for implicit differentiation, and direct ones."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.problem import BilevelProblem, ParamDict
from mbrl_bilevel.errors import ConfigError, MBRLError

Matvec = Callable[[Tensor], Tensor]
"""`[P] -> [P]`, the product with a symmetric matrix."""


@dataclass(frozen=True)
class LinearSolution:
    """An approximate solution of `(H + ridge I) v = b`.

    Attributes:
        v: `[P]`.
        residual: `||(H + ridge I) v - b|| / ||b||`, recomputed with one more product; 0 if b is 0.
        num_matvecs: products with H, the one for `residual` included.
        negative_curvature: H + ridge I was seen not to be positive definite, so the point is no
            strict inner minimum. Iterative solvers see the directions they visit only.
        converged: `residual` is at most the solver's `tol`.
    """

    v: Tensor
    residual: float
    num_matvecs: int
    negative_curvature: bool
    converged: bool


@dataclass(frozen=True)
class HypergradientResult:
    """A hypergradient and how far to trust it.

    Attributes:
        grad: `dL_out/dphi`, one tensor an outer parameter.
        outer_loss: `L_out` at `inner_params`.
        inner_params: where the derivatives were taken: the given ones, the closed-form solution,
            or the end of the unrolled trajectory. Detached.
        stationarity: norm of the inner gradient at `inner_params`; nan if it was not asked for.
        residual: relative residual of the linear solve; 0 for `closed_form`, which has none to
            make; nan for `unrolled`, whose truncation error nothing measures.
        num_hvps: Hessian-vector products; for `functional` they are products in the outputs, for
            `unrolled` those inside the backward pass, one a step.
        negative_curvature: see `LinearSolution`; `unrolled` and `closed_form` do not look.
    """

    grad: ParamDict
    outer_loss: float
    inner_params: ParamDict
    stationarity: float
    residual: float
    num_hvps: int
    negative_curvature: bool


class LinearSolver(ABC):
    """Solves `(H + ridge I) v = b` for a symmetric H known through products with vectors."""

    name: ClassVar[str]
    ridge: float = 0.0
    tol: float = 1e-6

    def solve(self, matvec: Matvec, b: Tensor) -> LinearSolution:
        """Solve for `v [P]` given the product with H (without the ridge) and `b [P]`.

        Raises:
            ValueError: b is not a vector, or the product changes the shape.
            MBRLError: b, a product or the result is not finite.
        """
        if b.ndim != 1:
            raise ValueError(f"b has shape {list(b.shape)}; it must be a vector, [P]")
        if not torch.isfinite(b).all():
            raise MBRLError(f"solver {self.name!r}: the right-hand side is not finite")
        # Scaling by the largest entry first keeps the squares from under- or overflowing.
        scale = b.abs().max() if b.numel() else b.new_zeros(())
        if scale == 0:
            return LinearSolution(torch.zeros_like(b), 0.0, 0, False, True)
        system = System(matvec, self.ridge, self.name)
        rhs = b / scale
        rhs = rhs / torch.linalg.vector_norm(rhs)
        v, negative_curvature = self._solve(system, rhs)
        if not torch.isfinite(v).all():
            raise MBRLError(f"solver {self.name!r} diverged: its solution is not finite")
        residual = float(torch.linalg.vector_norm(system(v) - rhs))
        return LinearSolution(
            v=v * torch.linalg.vector_norm(b / scale) * scale,
            residual=residual,
            num_matvecs=system.num_matvecs,
            negative_curvature=negative_curvature,
            converged=residual <= self.effective_tol(b.dtype),
        )

    def effective_tol(self, dtype: torch.dtype) -> float:
        """`tol`, but never below what the dtype can be expected to reach."""
        return max(self.tol, 100 * torch.finfo(dtype).eps)

    @abstractmethod
    def _solve(self, system: "System", b: Tensor) -> tuple[Tensor, bool]:
        """`(v [P], negative_curvature)` for a right-hand side `b [P]` of norm 1."""


class System:
    """The product with `H + ridge I`, counted and checked."""

    def __init__(self, matvec: Matvec, ridge: float, solver_name: str) -> None:
        self._matvec = matvec
        self._ridge = ridge
        self._solver_name = solver_name
        self.num_matvecs = 0

    def __call__(self, vector: Tensor) -> Tensor:
        product = self._matvec(vector)
        self.num_matvecs += 1
        if product.shape != vector.shape:
            raise ValueError(
                f"matvec returned shape {list(product.shape)} for a vector of shape "
                f"{list(vector.shape)}; they must agree"
            )
        if not torch.isfinite(product).all():
            raise MBRLError(
                f"solver {self._solver_name!r}: Hessian-vector product {self.num_matvecs} is not "
                "finite"
            )
        return product + self._ridge * vector


class DirectSolver(ABC):
    """Finds the hypergradient without the inner objective's parameter-space Hessian system."""

    name: ClassVar[str]

    @abstractmethod
    def differentiate(
        self, problem: BilevelProblem, inner_params: ParamDict, outer_params: ParamDict
    ) -> HypergradientResult:
        """The hypergradient; both arguments are leaves that require grad."""


def check_number(
    solver_name: str,
    setting: str,
    value: float,
    minimum: float,
    below: float = math.inf,
    exclusive: bool = False,
) -> None:
    """Raise ConfigError unless `minimum <= value < below` (`minimum < value` if exclusive)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and minimum <= value < below and not (exclusive and value == minimum):
        return
    allowed = f"a number {'>' if exclusive else '>='} {minimum:g}"
    if below < math.inf:
        allowed += f" and < {below:g}"
    raise ConfigError(f"solver {solver_name!r}: {setting}={value!r}; it must be {allowed}")


def check_count(solver_name: str, setting: str, value: int, minimum: int = 1) -> None:
    """Raise ConfigError unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(
            f"solver {solver_name!r}: {setting}={value!r}; it must be an integer >= {minimum}"
        )
