"""Differentiation through a known inner solution."""

from dataclasses import dataclass
from typing import ClassVar

from mbrl_bilevel.bilevel.hvp import outer_gradients, stationarity
from mbrl_bilevel.bilevel.problem import BilevelProblem, ParamDict
from mbrl_bilevel.bilevel.solvers.base import DirectSolver, HypergradientResult
from mbrl_bilevel.errors import ConfigError


@dataclass(frozen=True)
class ClosedFormSolver(DirectSolver):
    """Differentiates `L_out(inner_solution(phi), phi)`: exact, and no Hessian at all.

    The derivatives are taken at `problem.inner_solution(outer_params)`, whatever `inner_params` are
    handed in; `stationarity` is measured there too, so a wrong solution shows.
    """

    name: ClassVar[str] = "closed_form"

    def differentiate(
        self, problem: BilevelProblem, inner_params: ParamDict, outer_params: ParamDict
    ) -> HypergradientResult:
        """See `DirectSolver`.

        Raises:
            ConfigError: the problem has no `inner_solution`.
            ValueError: its names or shapes are not those of `inner_params`.
        """
        if problem.inner_solution is None:
            raise ConfigError(
                "solver 'closed_form' needs a problem with inner_solution; for others use "
                "'functional', 'cg', 'nystrom', 'neumann', 'dense' or 'unrolled'"
            )
        solution = problem.inner_solution(outer_params)
        _check_same_layout(solution, inner_params)
        outer_loss = problem.evaluate_outer(solution, outer_params)
        grads = outer_gradients(outer_loss, list(outer_params.values()))
        point = {name: value.detach().requires_grad_() for name, value in solution.items()}
        return HypergradientResult(
            grad=dict(zip(outer_params, grads, strict=True)),
            outer_loss=outer_loss.item(),
            inner_params={name: value.detach() for name, value in point.items()},
            stationarity=stationarity(problem, point, outer_params),
            residual=0.0,
            num_hvps=0,
            negative_curvature=False,
        )


def _check_same_layout(solution: ParamDict, inner_params: ParamDict) -> None:
    found = {name: list(value.shape) for name, value in solution.items()}
    expected = {name: list(value.shape) for name, value in inner_params.items()}
    if found != expected:
        raise ValueError(f"inner_solution returned shapes {found}; inner_params has {expected}")
