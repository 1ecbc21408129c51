"""InvertedPendulum-v5: keep a pole on a cart upright.

Observation: position, angle, velocity, angular velocity. Action: the force in [-3, 3].
"""

import math

from torch import Tensor

MAX_ANGLE = 0.2


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """1 for every step that does not terminate, else 0.

    Shapes: next_obs `[..., 4]` -> `[...]`, in the dtype of `next_obs`.
    """
    return (~termination_fn(obs, action, next_obs)).to(next_obs.dtype)


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """The angle is beyond 0.2 rad, or a component is not finite. Shapes: `[..., 4]` -> `[...]`."""
    magnitude = next_obs.abs()
    is_upright = magnitude[..., 1] <= MAX_ANGLE
    # False for NaN too, which amax hands on; twice as fast as isfinite(...).all(...).
    is_finite = magnitude.amax(dim=-1) < math.inf
    return ~(is_upright & is_finite)
