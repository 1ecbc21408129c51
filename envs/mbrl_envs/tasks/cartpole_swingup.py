"""CartPoleSwingUp-v0: swing a pole on a cart up and hold it.

Observation: x, x_dot, cos(theta), sin(theta), theta_dot; theta = 0 is upright. Action: the force,
as a fraction of the largest.
"""

from torch import Tensor

from mbrl_envs.cartpole_swingup import X_LIMIT


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """`0.5 (1 + cos theta) (1 - 0.5 (x / 2.4)^2)` after the step; 0 if the step terminates.

    The cosine is clamped, so that a model's prediction beyond it earns no more than the environment
    can pay.

    Shapes: next_obs `[..., 5]` -> `[...]`.
    """
    centring = 1.0 - (0.5 / X_LIMIT**2) * next_obs[..., 0].square()
    reward = (0.5 + 0.5 * next_obs[..., 2].clamp(-1.0, 1.0)) * centring
    return reward.masked_fill(termination_fn(obs, action, next_obs), 0.0)


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """The cart has left the track. Shapes: next_obs `[..., 5]` -> `[...]`."""
    return next_obs[..., 0].abs() > X_LIMIT
