"""Single-level training objectives, and the interface that the bilevel one shares with them."""

from mbrl_bilevel.objectives.base import Objective, gaussian_nll
from mbrl_bilevel.objectives.likelihood import NLL, BetaNLL
from mbrl_bilevel.objectives.mse import MIN_VARIANCE, MSE, residual_second_moment

__all__ = [
    "MIN_VARIANCE",
    "MSE",
    "NLL",
    "BetaNLL",
    "Objective",
    "gaussian_nll",
    "residual_second_moment",
]
