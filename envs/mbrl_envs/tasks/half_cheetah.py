"""HalfCheetah-v5: run forwards. It never terminates.

Observation: positions of the joints, then their velocities, neither clipped. The reward is paid for
the change of the x position, which the default observation leaves out: it has to be learned there.
With `exclude_current_positions_from_observation=False` the x position is the first entry, and the
reward exact. Action: six torques in [-1, 1].
"""

from torch import Tensor

from mbrl_envs.tasks.locomotion import forward_reward

DT = 0.05
CTRL_COST_WEIGHT = 0.1


def reward_fn_with_positions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Forward velocity in m/s, less `0.1 |action|^2`.

    Shapes: obs and next_obs `[..., 18]`, action `[..., 6]` -> `[...]`.
    """
    return forward_reward(obs, action, next_obs, DT, CTRL_COST_WEIGHT)
