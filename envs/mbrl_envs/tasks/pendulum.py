"""Pendulum-v1: swing a pendulum up with a weak motor.

Observation: cos(theta), sin(theta), theta_dot; theta = 0 is upright. Action: torque in [-2, 2] N m.
"""

import torch
from torch import Tensor

MAX_TORQUE = 2.0


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """`-(theta^2 + 0.1 theta_dot^2 + 0.001 torque^2)` before the step; the torque is clipped.

    Shapes: obs `[..., 3]`, action `[..., 1]` -> `[...]`.
    """
    theta = torch.atan2(obs[..., 1], obs[..., 0])
    torque = action[..., 0].clamp(-MAX_TORQUE, MAX_TORQUE)
    return -(theta.square() + 0.1 * obs[..., 2].square() + 0.001 * torque.square())


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """Never. Shapes: next_obs `[..., 3]` -> `[...]`."""
    return torch.zeros(next_obs.shape[:-1], dtype=torch.bool, device=next_obs.device)
