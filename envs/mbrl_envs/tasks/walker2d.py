"""Walker2d-v5: walk forwards on two legs without falling.

Observation: height of the torso, its angle and those of six joints, then nine velocities, clipped
to +-10. The end depends on height and angle alone, so clipping does not matter. The reward is paid
for the change of the x position, which the default observation leaves out: it has to be learned
there. With `exclude_current_positions_from_observation=False` the x position comes first, and the
reward is exact. Action: six torques in [-1, 1].
"""

from torch import Tensor

from mbrl_envs.tasks.locomotion import forward_reward

DT = 0.008
CTRL_COST_WEIGHT = 1e-3
HEALTHY_REWARD = 1.0
MIN_HEIGHT, MAX_HEIGHT = 0.8, 2.0
MAX_ANGLE = 1.0


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """The torso is not between 0.8 and 2 m high, or leans by 1 rad or more, or either is nan.

    Shapes: next_obs `[..., 17]` -> `[...]`.
    """
    height, angle = next_obs[..., 0], next_obs[..., 1]
    is_up = (height > MIN_HEIGHT) & (height < MAX_HEIGHT)
    return ~(is_up & (angle.abs() < MAX_ANGLE))


def reward_fn_with_positions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Forward velocity in m/s, plus 1 unless the step terminates, less `0.001 |action|^2`.

    Shapes: obs and next_obs `[..., 18]`, action `[..., 6]` -> `[...]`.
    """
    terminated = termination_fn_with_positions(obs, action, next_obs)
    healthy_reward = HEALTHY_REWARD * (~terminated).to(next_obs.dtype)
    return forward_reward(obs, action, next_obs, DT, CTRL_COST_WEIGHT) + healthy_reward


def termination_fn_with_positions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """As `termination_fn`; where the walker is does not matter. Shapes: `[..., 18]` -> `[...]`."""
    return termination_fn(obs[..., 1:], action, next_obs[..., 1:])
