"""Types shared by all packages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

RewardFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(obs [..., D_obs], action [..., D_act], next_obs [..., D_obs]) -> reward [...]`.

Actions are the environment's own: in its units for Box, an integer index `[...]` for Discrete.
"""

TerminationFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(obs, action, next_obs) -> terminated [...]`, bool; shapes as for `RewardFn`."""


@dataclass(frozen=True)
class Gaussian:
    """A batch of diagonal Gaussians, one batch an ensemble member.

    Attributes:
        mean: `[E, N, D]`.
        log_var: Logarithm of the variance, `[E, N, D]`.
    """

    mean: Tensor
    log_var: Tensor


class Predictor(Protocol):
    """Whatever can act: our agents and Stable-Baselines3's alike."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.generic], Any]:
        """Return the action(s) `[D_act]` or `[B, D_act]`, and the state to hand in next time."""
        ...
