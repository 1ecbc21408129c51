"""Equations of motion of a uniform pole hinged on a cart, for numpy arrays and torch tensors alike.

The pole (mass m, half-length l) turns without friction about its lower end on a cart (mass M) that
slides without friction. theta = 0 is upright and grows clockwise, so the pole's centre lies at
(x + l sin theta, l cos theta). The balance of the horizontal momentum of both bodies, and of the
angular momentum of the rod about the hinge (moment of inertia 4/3 m l^2), are

    (M + m) x_acc + m l (theta_acc cos theta - theta_dot^2 sin theta) = force
    4/3 l theta_acc + x_acc cos theta = g sin theta

which are linear in the two accelerations. Solved for them they are the equations of R. V. Florian,
"Correct equations for the dynamics of the cart-pole system" (2007), for no friction.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ArrayT = TypeVar("ArrayT", NDArray[np.floating[Any]], Tensor)


@dataclass(frozen=True)
class CartPoleParams:
    """Masses in kg, length in m (of the whole pole), gravity in m/s^2."""

    cart_mass: float = 1.0
    pole_mass: float = 0.1
    pole_length: float = 0.5
    gravity: float = 9.81


def cartpole_derivatives(state: ArrayT, force: ArrayT | float, params: CartPoleParams) -> ArrayT:
    """Time derivative of `state`.

    Args:
        state: `[..., 4]`: x (m), x_dot (m/s), theta (rad, 0 is upright), theta_dot (rad/s).
        force: `[...]` or a scalar: horizontal force on the cart, in N.
        params: Masses, length and gravity.

    Returns:
        `[..., 4]`: x_dot, x_acc, theta_dot, theta_acc.
    """
    xp: Any = torch if isinstance(state, Tensor) else np
    x_dot, theta, theta_dot = state[..., 1], state[..., 2], state[..., 3]
    sin, cos = xp.sin(theta), xp.cos(theta)
    half_length = 0.5 * params.pole_length
    total_mass = params.cart_mass + params.pole_mass
    moment = params.pole_mass * half_length

    push = (force + moment * theta_dot**2 * sin) / total_mass
    lever = half_length * (4.0 / 3.0 - params.pole_mass / total_mass * cos**2)
    theta_acc = (params.gravity * sin - push * cos) / lever
    x_acc = push - moment / total_mass * theta_acc * cos

    derivatives: ArrayT = xp.stack([x_dot, x_acc, theta_dot, theta_acc], -1)
    return derivatives


def cartpole_step(
    state: ArrayT, force: ArrayT | float, dt: float, params: CartPoleParams
) -> ArrayT:
    """Advance `state` by `dt` seconds under a constant force, with one Runge-Kutta step (order 4).

    Shapes as for `cartpole_derivatives`.
    """
    k1 = cartpole_derivatives(state, force, params)
    k2 = cartpole_derivatives(state + 0.5 * dt * k1, force, params)
    k3 = cartpole_derivatives(state + 0.5 * dt * k2, force, params)
    k4 = cartpole_derivatives(state + dt * k3, force, params)
    next_state: ArrayT = state + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return next_state
