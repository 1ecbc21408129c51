"""The Mahalanobis reward of a prediction, with a matrix U that is learned."""

from typing import Literal

import torch
from torch import Tensor, nn


class MahalanobisReward(nn.Module):
    """`r(y_hat, y) = -(y_hat - y)^T U (y_hat - y)`, U diagonal and positive by construction.

    Benechehab et al. (2025), section 4.2. Each of the E members has a reward of its own: its
    residuals are its own.

    Args:
        ensemble_size: E.
        target_size: D.
        structure: `"diagonal"`, one weight a dimension, or `"scalar"`, `U = u I`.
        initial: Value of every weight at the start; positive.
    """

    def __init__(
        self,
        ensemble_size: int,
        target_size: int,
        structure: Literal["scalar", "diagonal"] = "diagonal",
        initial: float = 1.0,
    ) -> None:
        super().__init__()
        self.structure = structure
        self.target_size = target_size
        num_weights = target_size if structure == "diagonal" else 1
        log_initial = torch.full((ensemble_size, num_weights), initial).log()
        self.log_u = nn.Parameter(log_initial)

    @property
    def log_diagonal(self) -> Tensor:
        """Logarithm of U's diagonal, `[E, D]`."""
        return self.log_u.expand(-1, self.target_size)

    def forward(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """Return the reward `[E, N]` of predictions `[E, N, D]` for targets `[E, N, D]`."""
        return -((y_hat - y).square() * self.log_diagonal.exp()[:, None, :]).sum(dim=-1)

    def expected(self, mean: Tensor, variance: Tensor, y: Tensor) -> Tensor:
        """Return `E r(y_hat, y)` for `y_hat ~ N(mean, diag(variance))`, `[E, N]`, in closed form.

        `-(mean - y)^T U (mean - y) - tr(U Sigma)`; all arguments `[E, N, D]`.
        """
        weighted = ((mean - y).square() + variance) * self.log_diagonal.exp()[:, None, :]
        return -weighted.sum(dim=-1)
