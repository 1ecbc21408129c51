"""How unlike the training data an input is, and what that adds to log-variances."""

import torch
from torch import Tensor, nn

RIDGE = 1e-4
"""Added to the features' second moments, in units of their mean square."""


class Leverage(nn.Module):
    """The part of E log-variance heads that grows with the distance from the training data.

    With an input's features f of the last hidden layer (and a one), and their second moments
    `C = mean f f^T` over the training data, its leverage is `h = f^T C^{-1} f / F`: one on
    average over the training data, and the factor by which the posterior variance of a Bayesian
    linear last layer grows. The term is `slope * (log(1 + h) - average)`, with a slope for each
    dimension that held-out data decides about: a slope of one makes far predictions as uncertain
    as that layer, zero (as before the first solution) ignores the distance.

    Networks alone do not know where they have not been: linear features go on growing there, and a
    head may call what it has never seen predictable.

    Args:
        ensemble_size: E.
        num_features: F, without the one.
        target_size: D.
    """

    root: Tensor
    average: Tensor
    slope: Tensor

    def __init__(self, ensemble_size: int, num_features: int, target_size: int) -> None:
        super().__init__()
        size = num_features + 1
        self.register_buffer("root", torch.zeros(ensemble_size, size, size))
        self.register_buffer("average", torch.zeros(ensemble_size, 1, 1))
        self.register_buffer("slope", torch.zeros(ensemble_size, 1, target_size))

    @property
    def is_active(self) -> bool:
        """Whether any dimension depends on the distance."""
        return bool(self.slope.any())

    def forget(self) -> None:
        """Be inactive, as before the first solution."""
        self.slope.zero_()

    @torch.no_grad()
    def fit(self, member: int, features: Tensor) -> None:
        """Take over the training data, and be inactive.

        Args:
            member: Its index.
            features: With a one at the end, `[N, F + 1]`.
        """
        exact = features.double()
        moments = exact.mT @ exact / len(exact)
        moments.diagonal().add_(RIDGE * moments.diagonal().mean())
        # h = |f root|^2 / F with root root^T the inverse.
        root = torch.linalg.cholesky(torch.linalg.inv(moments))
        self.root[member] = root.to(self.root.dtype)
        self.slope[member] = 0.0
        self.average[member] = 0.0
        self.average[member] = self.of_member(member, features).mean()

    def of_member(self, member: int, features: Tensor) -> Tensor:
        """Return `log(1 + h) - average`, `[N, 1]`, for features `[N, F + 1]`."""
        one = slice(member, member + 1)
        return log_leverage(features[None, :, :-1], self.root[one])[0] - self.average[member]

    def forward(self, features: Tensor) -> Tensor:
        """Return what is added to the heads' outputs, `[E, N, D]`.

        Args:
            features: Without the one, `[E, N, F]`.
        """
        return self.slope * (log_leverage(features, self.root) - self.average)


def log_leverage(features: Tensor, root: Tensor) -> Tensor:
    """Return `log(1 + h)`, `[P, N, 1]`, for features `[P, N, F]` and roots `[P, F + 1, F + 1]`."""
    whitened = torch.baddbmm(root[:, -1:], features, root[:, :-1])
    return whitened.square().mean(dim=-1, keepdim=True).log1p()
