"""Single-level training objectives, and the interface that the bilevel one shares with them."""

from mbrl_bilevel.objectives.base import Objective, differentiate_nll, gaussian_nll
from mbrl_bilevel.objectives.likelihood import NLL, BetaNLL
from mbrl_bilevel.objectives.mse import MIN_VARIANCE, MSE, residual_second_moment
from mbrl_bilevel.objectives.policy_gradient import PolicyGradient
from mbrl_bilevel.objectives.quadratic import (
    floor_eigenvalues,
    quadratic_loss,
    residual_moment_matrix,
)

__all__ = [
    "MIN_VARIANCE",
    "MSE",
    "NLL",
    "BetaNLL",
    "Objective",
    "PolicyGradient",
    "differentiate_nll",
    "floor_eigenvalues",
    "gaussian_nll",
    "quadratic_loss",
    "residual_moment_matrix",
    "residual_second_moment",
]
