"""What part of a reward is the task's: how much an error in each dimension costs in return."""

import torch
from torch import Tensor, nn

FLOOR = 0.3
"""Share that is dealt out to all dimensions alike. Errors can matter by what no gradient shows:
where a cart hits the end of its track, say."""
NEWS = 0.2
"""Weight of the latest look at the shares, which saw few steps."""


class TaskReward(nn.Module):
    """Weights of D dimensions, one on average, that follow their shares in the return's error.

    Args:
        target_size: D.
    """

    share: Tensor

    def __init__(self, target_size: int) -> None:
        super().__init__()
        self.register_buffer("share", torch.full((target_size,), 1 / target_size))

    @property
    def weights(self) -> Tensor:
        """What the dimensions' errors count, `[D]`; one on average."""
        return len(self.share) * (1 - FLOOR) * self.share + FLOOR

    def follow(self, share: Tensor) -> None:
        """Move towards shares `[D]` that add up to one."""
        self.share.lerp_(share, NEWS)
