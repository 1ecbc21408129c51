"""Differentiation in the model's outputs, one small solve a sample."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.hvp import gradient, outer_gradients, stationarity, vjp
from mbrl_bilevel.bilevel.problem import (
    BilevelProblem,
    FunctionalProblem,
    ParamDict,
    check_sample_losses,
    require_twice_differentiable,
)
from mbrl_bilevel.bilevel.solvers.base import DirectSolver, HypergradientResult, check_number
from mbrl_bilevel.bilevel.solvers.dense import solve_symmetric
from mbrl_bilevel.errors import ConfigError, MBRLError


@dataclass(frozen=True)
class FunctionalSolver(DirectSolver):
    """The implicit hypergradient of the inner problem over functions (Petrulionyte et al. 2024).

        d_phi L_out - mean_i (d_phi d_z l_i)^T (d_z^2 l_i + ridge I)^-1 d_z l_out_i,

    with l the expected inner loss given x, and z the outputs at the outer data. It costs a forward
    pass of the model there and n products in the outputs. No derivative of the model is taken, so
    neither its size nor the number of inner steps matters. `FunctionalProblem` says when it is
    exact.

    Attributes:
        ridge: added to every sample's diagonal.
        compute_stationarity: False saves a pass over the inner data, the dearest part; the result's
            `stationarity` is then nan.
    """

    ridge: float = 0.0
    compute_stationarity: bool = True
    name: ClassVar[str] = "functional"

    def __post_init__(self) -> None:
        check_number(self.name, "ridge", self.ridge, 0)
        if not isinstance(self.compute_stationarity, bool):
            raise ConfigError(
                f"solver 'functional': compute_stationarity={self.compute_stationarity!r}; it must "
                "be true or false"
            )

    def differentiate(
        self, problem: BilevelProblem, inner_params: ParamDict, outer_params: ParamDict
    ) -> HypergradientResult:
        """See `DirectSolver`.

        Raises:
            ConfigError: the problem is no `FunctionalProblem`, or the expected inner loss declares
                its second derivatives to be wrong.
            ValueError: a loss does not return one value a sample.
            MBRLError: a loss or a second derivative is not finite.
        """
        if not isinstance(problem, FunctionalProblem):
            raise ConfigError(
                "solver 'functional' needs a FunctionalProblem, whose losses act on a model's "
                "outputs; for others use 'cg', 'nystrom', 'neumann', 'dense' or 'unrolled'"
            )
        require_twice_differentiable(problem.expected_inner_loss, self.name)
        x, y = problem.outer_data
        with torch.no_grad():
            solution = problem.model_fn(inner_params, x)
        outputs = solution.clone().requires_grad_()
        outer = list(outer_params.values())

        outer_losses = problem.outer_loss(outputs, outer_params, x, y)
        check_sample_losses("outer_loss", outer_losses, outputs)
        outer_loss = outer_losses.mean()
        if not torch.isfinite(outer_loss):
            raise MBRLError(f"outer_loss has mean {outer_loss.item()}; it must be finite")
        b, *direct = outer_gradients(outer_loss, [outputs, *outer])

        losses = problem.expected_inner_loss(outputs, outer_params, x, solution)
        check_sample_losses("expected_inner_loss", losses, outputs)
        (inner_grad,) = gradient(losses.sum(), {"outputs": outputs}, create_graph=True)
        hessian = self._hessians(inner_grad, outputs)
        v, negative_curvature = _solve_samples(hessian, b)
        cross = vjp([inner_grad], [v], outer)

        return HypergradientResult(
            grad={k: d - c for k, d, c in zip(outer_params, direct, cross, strict=True)},
            outer_loss=outer_loss.item(),
            inner_params={name: value.detach() for name, value in inner_params.items()},
            stationarity=(
                stationarity(problem, inner_params, outer_params)
                if self.compute_stationarity
                else float("nan")
            ),
            residual=_relative_residual(hessian, v, b),
            num_hvps=outputs.shape[-1],
            negative_curvature=negative_curvature,
        )

    def _hessians(self, inner_grad: Tensor, outputs: Tensor) -> Tensor:
        """Every sample's `d_z^2 l + ridge I`, `[*S, n, n]`.

        Samples do not interact, so the gradient of a component's sum is that row for all of them.
        """
        rows = [
            vjp([component], [torch.ones_like(component)], [outputs])[0]
            for component in inner_grad.unbind(-1)
        ]
        hessian = torch.stack(rows, dim=-2)
        if not torch.isfinite(hessian).all():
            raise MBRLError("expected_inner_loss has a second derivative that is not finite")
        identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
        return 0.5 * (hessian + hessian.mT) + self.ridge * identity


def _solve_samples(hessian: Tensor, b: Tensor) -> tuple[Tensor, bool]:
    """Solve `hessian [*S, n, n]` for `b [*S, n]`; say if one was not positive semi-definite."""
    factor, info = torch.linalg.cholesky_ex(hessian)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    rounding = hessian.shape[-1] * torch.finfo(hessian.dtype).eps
    scale = hessian.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    definite = (info == 0) & (pivots.amin(-1) > rounding * scale)
    if definite.all():
        return torch.cholesky_solve(b.unsqueeze(-1), factor).squeeze(-1), False
    return solve_symmetric(hessian, b)


def _relative_residual(hessian: Tensor, v: Tensor, b: Tensor) -> float:
    size = torch.linalg.vector_norm(b)
    if size == 0:
        return 0.0
    return float(torch.linalg.vector_norm((hessian @ v.unsqueeze(-1)).squeeze(-1) - b) / size)
