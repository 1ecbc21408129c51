"""What the tasks of running robots have in common: pay for the way covered, less a control cost."""

from torch import Tensor


def forward_reward(
    obs: Tensor, action: Tensor, next_obs: Tensor, dt: float, ctrl_cost_weight: float
) -> Tensor:
    """`(x_after - x_before) / dt - ctrl_cost_weight |action|^2`.

    The action counts as it was asked for, also beyond the bounds to which the motors clip it.

    A float32 observation rounds x to 6e-8 of itself, so the reward to 1.2e-7 |x| / dt.

    Args:
        obs: `[..., D]`, the x position (m) first.
        action: `[..., A]`.
        next_obs: `[..., D]`.
        dt: Seconds between observations.
        ctrl_cost_weight: Reward lost for a unit of squared action.

    Returns:
        `[...]`.
    """
    velocity = (next_obs[..., 0] - obs[..., 0]) / dt
    return velocity - ctrl_cost_weight * action.square().sum(dim=-1)
