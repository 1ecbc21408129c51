"""What a `BilevelTrainer` tells about its training."""

import math
from dataclasses import dataclass

import torch

from mbrl_bilevel.bilevel.hvp import flatten
from mbrl_bilevel.bilevel.problem import ParamDict
from mbrl_bilevel.bilevel.solvers import HypergradientResult


@dataclass(frozen=True)
class OuterStep:
    """One hypergradient, and where it was taken. The last six: see `HypergradientResult`.

    Attributes:
        step: Counts from 0.
        outer_params: The reward's learned parameters at this step, copies.
        grad: The hypergradient with respect to them.
        hypergradient_norm: Its Euclidean norm.
        outer_loss: Held-out loss of the model that this reward has led to.
        stationarity: Norm of the inner gradient: how far the inner problem is from solved.
        residual: Relative residual of the solver's linear system.
        num_hvps: Hessian-vector products that it took.
        negative_curvature: The inner Hessian was seen not to be positive definite.
    """

    step: int
    outer_params: ParamDict
    grad: ParamDict
    hypergradient_norm: float
    outer_loss: float
    stationarity: float
    residual: float
    num_hvps: int
    negative_curvature: bool

    def metrics(self) -> dict[str, float]:
        """Return the numbers to log, by TensorBoard tag; what was not measured is left out."""
        values = {
            "bilevel/outer_loss": self.outer_loss,
            "bilevel/hypergradient_norm": self.hypergradient_norm,
            "bilevel/stationarity": self.stationarity,
            "bilevel/solver_residual": self.residual,
            "bilevel/num_hvps": float(self.num_hvps),
            "bilevel/negative_curvature": float(self.negative_curvature),
        }
        return {tag: value for tag, value in values.items() if not math.isnan(value)}

    @classmethod
    def from_result(
        cls, step: int, outer_params: ParamDict, result: HypergradientResult
    ) -> "OuterStep":
        """Return the record of a hypergradient that was taken at `outer_params`."""
        return cls(
            step=step,
            outer_params=outer_params,
            grad=result.grad,
            hypergradient_norm=float(torch.linalg.vector_norm(flatten(result.grad.values()))),
            outer_loss=result.outer_loss,
            stationarity=result.stationarity,
            residual=result.residual,
            num_hvps=result.num_hvps,
            negative_curvature=result.negative_curvature,
        )

    @classmethod
    def without_gradient(cls, step: int, outer_loss: float, stationarity: float) -> "OuterStep":
        """Return the record of a step of a reward that has nothing to learn."""
        return cls(
            step=step,
            outer_params={},
            grad={},
            hypergradient_norm=0.0,
            outer_loss=outer_loss,
            stationarity=stationarity,
            residual=0.0,
            num_hvps=0,
            negative_curvature=False,
        )


@dataclass(frozen=True)
class BilevelFit:
    """What `BilevelTrainer.fit` did.

    Attributes:
        history: Every outer step taken, in order.
        best_step: After how many updates of the reward the outer loss was lowest.
        best_outer_loss: How low. With a `patience`, that reward and model were kept.
        stopped_early: `patience` ended it.
        initial_outer_loss: Before any training.
        outer_loss: At the end, after the inner problem was solved once more.
        stationarity: Norm of the inner gradient at the end.
    """

    history: list[OuterStep]
    best_step: int
    best_outer_loss: float
    stopped_early: bool
    initial_outer_loss: float
    outer_loss: float
    stationarity: float
