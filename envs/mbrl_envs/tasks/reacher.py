"""Reacher-v5: move the tip of an arm to a target. It never terminates.

Observation: cosines and sines of two angles, the target's x and y, two angular velocities, and the
vector from the target to the tip, x and y; their heights are equal. Action: two torques in [-1, 1].
"""

from torch import Tensor
from torch.linalg import vector_norm

TO_TIP = slice(8, 10)


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    """`-(distance + |action|^2)`, with the distance (m) of the tip from the target after the step.

    It is read from the observed vector, which MuJoCo computed together with the distance that is
    paid for; the observed angles are a fraction of a time step further on. The action counts as it
    was asked for, also beyond the bounds.

    Shapes: action `[..., 2]`, next_obs `[..., 10]` -> `[...]`.
    """
    distance: Tensor = vector_norm(next_obs[..., TO_TIP], dim=-1)
    return -(distance + action.square().sum(dim=-1))
