"""Differentiation through the last steps of the inner optimisation."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from mbrl_bilevel.bilevel.hvp import gradient, outer_gradients, stationarity
from mbrl_bilevel.bilevel.problem import BilevelProblem, ParamDict, require_twice_differentiable
from mbrl_bilevel.bilevel.solvers.base import (
    DirectSolver,
    HypergradientResult,
    check_count,
    check_number,
)
from mbrl_bilevel.errors import MBRLError


@dataclass(frozen=True)
class UnrolledSolver(DirectSolver):
    """Takes `num_steps` of gradient descent from `inner_params` and differentiates through them.

    The start is a constant: warm-started, this is truncated back-propagation through the inner
    optimisation. Memory grows with `num_steps`, as every step's graph is kept. The error falls with
    `num_steps` as that of a Neumann series of as many terms and `scale = lr` does.

    Steps are those of `torch.optim.SGD`. Adam is not offered: it divides a gradient by its own size
    and is thus blind to the scale of its loss, so through an unrolled Adam the hypergradient of a
    reward's scale vanishes (1.9e-9 where SGD gives -0.10).

    Attributes:
        num_steps: steps taken and differentiated.
        lr: step size; below `2 (1 + momentum) / lambda_max` of the inner Hessian, or it diverges.
        momentum: in [0, 1), from zero velocity.
    """

    num_steps: int = 100
    lr: float = 0.01
    momentum: float = 0.9
    name: ClassVar[str] = "unrolled"

    def __post_init__(self) -> None:
        check_count(self.name, "num_steps", self.num_steps)
        check_number(self.name, "lr", self.lr, 0, exclusive=True)
        check_number(self.name, "momentum", self.momentum, 0, below=1)

    def differentiate(
        self, problem: BilevelProblem, inner_params: ParamDict, outer_params: ParamDict
    ) -> HypergradientResult:
        """See `DirectSolver`.

        Raises:
            ConfigError: the inner objective's second derivatives are wrong.
            MBRLError: the trajectory diverged.
        """
        require_twice_differentiable(problem.inner_objective, self.name)
        try:
            end = self._descend(problem, inner_params, outer_params)
            outer_loss = problem.evaluate_outer(end, outer_params)
        except MBRLError as error:
            raise MBRLError(
                f"solver 'unrolled' diverged with lr={self.lr:g}: {error}. Lower lr"
            ) from error
        grads = outer_gradients(outer_loss, list(outer_params.values()))
        point = {name: value.detach().requires_grad_() for name, value in end.items()}
        return HypergradientResult(
            grad=dict(zip(outer_params, grads, strict=True)),
            outer_loss=outer_loss.item(),
            inner_params={name: value.detach() for name, value in point.items()},
            stationarity=stationarity(problem, point, outer_params),
            residual=float("nan"),
            num_hvps=self.num_steps,
            negative_curvature=False,
        )

    def _descend(
        self, problem: BilevelProblem, params: ParamDict, outer_params: ParamDict
    ) -> ParamDict:
        velocity = {name: torch.zeros_like(value) for name, value in params.items()}
        for _ in range(self.num_steps):
            loss = problem.evaluate_inner(params, outer_params)
            grads = gradient(loss, params, create_graph=True)
            velocity = {
                name: self.momentum * velocity[name] + grad
                for name, grad in zip(params, grads, strict=True)
            }
            params = {name: value - self.lr * velocity[name] for name, value in params.items()}
        return params
