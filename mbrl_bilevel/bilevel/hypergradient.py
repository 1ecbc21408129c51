"""The gradient of a bilevel problem with respect to its outer parameters."""

import logging

import torch

from mbrl_bilevel.bilevel.hvp import InnerGradient, flatten, outer_gradients
from mbrl_bilevel.bilevel.problem import (
    BilevelProblem,
    ParamDict,
    as_leaves,
    require_twice_differentiable,
)
from mbrl_bilevel.bilevel.solvers import HypergradientResult, LinearSolver, Solver

_logger = logging.getLogger(__name__)


def hypergradient(
    problem: BilevelProblem, inner_params: ParamDict, outer_params: ParamDict, solver: Solver
) -> HypergradientResult:
    """`dL_out/dphi` at an inner solution, however that was found.

    A linear solver (`dense`, `cg`, `neumann`, `nystrom`) applies the implicit function theorem,

        d_phi L_out - (d_phi d_theta L_in)^T (d_theta^2 L_in + ridge I)^-1 d_theta L_out,

    which holds where `d_theta L_in = 0`: look at `stationarity`. Memory does not depend on how many
    steps led there. An outer parameter that nothing depends on gets a zero gradient. Neither
    argument, nor any `.grad`, is changed. Negative curvature is not raised but flagged in the
    result and logged as a warning (`logging`), as training passes through such points.

    Args:
        problem: what to differentiate.
        inner_params: the inner solution, all of one dtype and on one device.
        outer_params: where to take the gradient.
        solver: from `make_solver`.

    Raises:
        ConfigError: the solver cannot differentiate this problem; the message says what can.
        MBRLError: a loss or a product is not finite, or the solver diverged.
        ValueError: an objective is not a scalar, does not depend on a parameter it must depend on,
            or parameters are empty or of unfit dtypes.
    """
    with torch.enable_grad():
        inner = as_leaves("inner_params", inner_params)
        outer = as_leaves("outer_params", outer_params)
        _check_uniform(inner)
        if isinstance(solver, LinearSolver):
            result = _implicit(problem, inner, outer, solver)
        else:
            result = solver.differentiate(problem, inner, outer)
    if result.negative_curvature:
        _logger.warning(
            "solver %r met non-positive curvature: inner_params is no strict inner minimum "
            "(stationarity %.3g, residual %.3g)",
            solver.name,
            result.stationarity,
            result.residual,
        )
    return result


def _implicit(
    problem: BilevelProblem, inner: ParamDict, outer: ParamDict, solver: LinearSolver
) -> HypergradientResult:
    require_twice_differentiable(problem.inner_objective, solver.name)
    outer_loss = problem.evaluate_outer(inner, outer)
    grads = outer_gradients(outer_loss, [*inner.values(), *outer.values()])
    b, direct = flatten(grads[: len(inner)]), grads[len(inner) :]

    inner_gradient = InnerGradient(problem, inner, outer)
    solution = solver.solve(inner_gradient.hvp, b)
    cross = inner_gradient.cross_vjp(solution.v)
    return HypergradientResult(
        grad={name: d - cross[name] for name, d in zip(outer, direct, strict=True)},
        outer_loss=outer_loss.item(),
        inner_params={name: value.detach() for name, value in inner.items()},
        stationarity=inner_gradient.norm,
        residual=solution.residual,
        num_hvps=solution.num_matvecs,
        negative_curvature=solution.negative_curvature,
    )


def _check_uniform(inner: ParamDict) -> None:
    kinds = {name: f"{value.dtype} on {value.device}" for name, value in inner.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(f"inner_params must share one dtype and device; found {kinds}")
