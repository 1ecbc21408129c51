"""Mean squared error."""

import torch
from torch import Tensor

from mbrl_bilevel.objectives.base import Objective
from mbrl_bilevel.types import Gaussian

MIN_VARIANCE = 1e-7
"""Least residual variance, in normalised units: targets that are predicted exactly stay finite."""


def residual_second_moment(prediction: Gaussian, target: Tensor) -> Tensor:
    """Return the mean squared residual of each member and dimension, `[E, D]`, floored."""
    return (prediction.mean - target).square().mean(dim=1).clamp_min(MIN_VARIANCE)


class MSE(Objective):
    """Mean squared error; its covariance is the held-out residual variance, one a dimension.

    Args:
        ensemble_size: E.
        target_size: D.
    """

    name = "mse"
    residual_log_var: Tensor

    def __init__(self, ensemble_size: int, target_size: int) -> None:
        super().__init__()
        self.register_buffer("residual_log_var", torch.zeros(ensemble_size, target_size))

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        return (prediction.mean - target).square().mean(dim=(1, 2))

    @property
    def solution_log_var(self) -> Tensor:
        return self.residual_log_var

    def score(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return `log(MSE) / 2`, `[E]`: as good a criterion as the MSE, and in nats."""
        return 0.5 * self.loss(prediction, target).clamp_min(MIN_VARIANCE).log()

    def solve_outer(self, prediction: Gaussian, target: Tensor) -> dict[str, float]:
        self.residual_log_var.copy_(residual_second_moment(prediction, target).log())
        return {}
