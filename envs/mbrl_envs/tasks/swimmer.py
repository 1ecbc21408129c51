"""Swimmer-v5: swim forwards. It never terminates.

Observation: positions of the joints, then their velocities, neither clipped. The reward is paid for
the change of the x position, which the default observation leaves out: it has to be learned there.
With `exclude_current_positions_from_observation=False` x and y are the first entries, and the
reward is exact. Action: two torques in [-1, 1].
"""

from torch import Tensor

from mbrl_envs.tasks.locomotion import forward_reward

DT = 0.04
CTRL_COST_WEIGHT = 1e-4


def reward_fn_with_positions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Forward velocity in m/s, less `0.0001 |action|^2`.

    Shapes: obs and next_obs `[..., 10]`, action `[..., 2]` -> `[...]`.
    """
    return forward_reward(obs, action, next_obs, DT, CTRL_COST_WEIGHT)
