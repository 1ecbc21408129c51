"""Ant-v5: run forwards on four legs without toppling over.

Observation: height and orientation of the torso, angles of eight joints, 14 velocities, then
contact forces; only these are clipped. Action: eight torques in [-1, 1].

The reward has to be learned, even with `exclude_current_positions_from_observation=False`, which
puts x and y first. The simulator pays for the change of the torso's `xpos`, which MuJoCo computed
in the last Runge-Kutta stage, before the position observed: the velocity paid for and the one
observed differ by up to 0.1 m/s under random torques.
"""

import math

from torch import Tensor

MIN_HEIGHT, MAX_HEIGHT = 0.2, 1.0
NUM_STATE = 27
"""Positions but x and y, and velocities; what follows in the observation has no part in the end."""

HARMLESS_KWARGS = (
    "contact_cost_weight",
    "contact_force_range",
    "healthy_reward",
    "include_cfrc_ext_in_observation",
    "main_body",
)
"""Arguments that change the reward and the contact forces only."""


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """The torso is lower than 0.2 m or higher than 1 m, or the state is not finite.

    x and y cannot be seen, but cannot overflow before the velocities do.

    Shapes: next_obs `[..., 27 or more]` -> `[...]`.
    """
    height = next_obs[..., 0]
    is_up = (height >= MIN_HEIGHT) & (height <= MAX_HEIGHT)
    # False for nan too, which amax hands on.
    is_finite = next_obs[..., :NUM_STATE].abs().amax(dim=-1) < math.inf
    return ~(is_up & is_finite)


def termination_fn_with_positions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """As `termination_fn`; x and y have to be finite, too.

    Shapes: next_obs `[..., 29 or more]` -> `[...]`.
    """
    is_finite = next_obs[..., :2].abs().amax(dim=-1) < math.inf
    return termination_fn(obs[..., 2:], action, next_obs[..., 2:]) | ~is_finite
