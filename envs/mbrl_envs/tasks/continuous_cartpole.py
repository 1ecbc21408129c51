"""ContinuousCartPole-v0: keep the pole of a cart upright, with forces of any size.

Observation: x, x_dot, theta, theta_dot; theta = 0 is upright. Action: the force, as a fraction of
the largest.
"""

import torch
from torch import Tensor

from mbrl_envs.continuous_cartpole import THETA_LIMIT, X_LIMIT


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """1 for every step, the last one included. Shapes: next_obs `[..., 4]` -> `[...]`."""
    return torch.ones_like(next_obs[..., 0])


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """The cart has left the track, the pole leans by more than 12 degrees, or either is nan.

    Shapes: next_obs `[..., 4]` -> `[...]`.
    """
    is_on_track = next_obs[..., 0].abs() <= X_LIMIT
    is_upright = next_obs[..., 2].abs() <= THETA_LIMIT
    return ~(is_on_track & is_upright)
