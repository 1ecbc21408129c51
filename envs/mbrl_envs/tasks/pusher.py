"""Pusher-v5: push an object to a goal with an arm of seven joints. It never terminates.

Observation: seven angles and their velocities, then the positions of the arm's tip, the object and
the goal, three coordinates each. Action: seven torques in [-2, 2].
"""

from torch import Tensor
from torch.linalg import vector_norm

TIP, OBJECT, GOAL = slice(14, 17), slice(17, 20), slice(20, 23)
NEAR_WEIGHT, DISTANCE_WEIGHT, CTRL_COST_WEIGHT = 0.5, 1.0, 0.1


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """`-(|object - goal| + 0.5 |object - tip| + 0.1 |action|^2)`, in m, after the step.

    The action counts as it was asked for, also beyond the bounds.

    Shapes: action `[..., 7]`, next_obs `[..., 23]` -> `[...]`.
    """
    position = next_obs[..., OBJECT]
    near: Tensor = vector_norm(position - next_obs[..., TIP], dim=-1)
    distance: Tensor = vector_norm(position - next_obs[..., GOAL], dim=-1)
    ctrl_cost = action.square().sum(dim=-1)
    return -(DISTANCE_WEIGHT * distance + NEAR_WEIGHT * near + CTRL_COST_WEIGHT * ctrl_cost)
