"""Hopper-v5: hop forwards on one leg without falling.

Observation: height of the torso, its angle and those of three joints, then six velocities, clipped
to +-10. The reward is paid for the change of the x position, which the default observation leaves
out: it has to be learned there. With `exclude_current_positions_from_observation=False` the x
position comes first, and the reward is exact. Action: three torques in [-1, 1].

The simulator also ends an episode if a velocity reaches 100, before clipping, which no observation
shows. In 42,000 steps of random full torques, changed often or held for long, none went beyond 24
(rad/s or m/s): a hopper gets out of its range of angles long before it moves so fast.
"""

from torch import Tensor

from mbrl_envs.tasks.locomotion import forward_reward

DT = 0.008
CTRL_COST_WEIGHT = 1e-3
HEALTHY_REWARD = 1.0
MIN_HEIGHT = 0.7
MAX_ANGLE = 0.2
STATE_LIMIT = 100.0


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """Torso at 0.7 m or lower, angle 0.2 rad or more, anything but the height 100 or more, or nan.

    Shapes: next_obs `[..., 11]` -> `[...]`.
    """
    height, angle, others = next_obs[..., 0], next_obs[..., 1], next_obs[..., 1:]
    is_up = (height > MIN_HEIGHT) & (height < float("inf"))
    is_upright = angle.abs() < MAX_ANGLE
    # amax hands nan on, which compares as false.
    is_in_range = others.abs().amax(dim=-1) < STATE_LIMIT
    return ~(is_up & is_upright & is_in_range)


def reward_fn_with_positions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Forward velocity in m/s, plus 1 unless the step terminates, less `0.001 |action|^2`.

    Shapes: obs and next_obs `[..., 12]`, action `[..., 3]` -> `[...]`.
    """
    terminated = termination_fn_with_positions(obs, action, next_obs)
    healthy_reward = HEALTHY_REWARD * (~terminated).to(next_obs.dtype)
    return forward_reward(obs, action, next_obs, DT, CTRL_COST_WEIGHT) + healthy_reward


def termination_fn_with_positions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """As `termination_fn`; where the hopper is does not matter. Shapes: `[..., 12]` -> `[...]`."""
    return termination_fn(obs[..., 1:], action, next_obs[..., 1:])
