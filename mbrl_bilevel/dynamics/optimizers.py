"""Optimisers and learning-rate schedules of a fit, by name."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch

from mbrl_bilevel.dynamics.fused_adamw import FusedAdamW
from mbrl_bilevel.dynamics.soap import SOAP

WARM_UP = 0.3
"""Share of the updates until a cycle is at its top."""
START = 0.04
"""Where a cycle starts, as a share of its top."""


def make_optimizer(
    name: Literal["adamw", "soap"], param_groups: list[dict[str, Any]], lr: float
) -> torch.optim.Optimizer:
    """Return the optimiser of parameters `[E, in, out]` and `[E, 1, out]`."""
    match name:
        case "adamw":
            return FusedAdamW(param_groups, lr=lr)
        case "soap":
            return SOAP(param_groups, lr=lr)


def constant(progress: float) -> float:
    """Return one, whatever the share of the updates made."""
    del progress
    return 1.0


def one_cycle(progress: float) -> float:
    """Return the share of the highest learning rate after a share `progress` of the updates.

    Half a cosine up and half a cosine down to zero (Smith and Topin, "Super-convergence", 2019).
    """
    if progress < WARM_UP:
        return START + (1 - START) * 0.5 * (1 - math.cos(math.pi * progress / WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


SCHEDULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"constant": constant, "one_cycle": one_cycle}
)
