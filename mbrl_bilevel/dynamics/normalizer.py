"""Standardisation to mean 0 and standard deviation 1."""

import torch
from torch import Tensor, nn


class Normalizer(nn.Module):
    """Standardises vectors by statistics of the training data.

    Args:
        size: Number of dimensions D.
    """

    mean: Tensor
    std: Tensor
    varies: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("varies", torch.ones(size, dtype=torch.bool))
        self.register_buffer("low", torch.full((size,), -torch.inf))
        self.register_buffer("high", torch.full((size,), torch.inf))

    def fit(self, data: Tensor) -> None:
        """Set the statistics to those of `data` `[N, D]`.

        A dimension that does not vary beyond rounding keeps its scale: dividing by nearly nothing
        would turn noise of the last digit into a feature.
        """
        wide = data.double()
        mean, std = wide.mean(dim=0), wide.std(dim=0, correction=0)
        constant = std <= 1e-6 * torch.clamp(mean.abs(), min=1.0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(constant, torch.ones_like(std), std))
        self.varies.copy_(~constant)
        self.low.copy_(data.amin(dim=0))
        self.high.copy_(data.amax(dim=0))

    def normalize(self, x: Tensor) -> Tensor:
        """Return `(x - mean) / std`, `[..., D]`."""
        return (x - self.mean) / self.std

    def denormalize(self, x: Tensor) -> Tensor:
        """Return `x * std + mean`, `[..., D]`."""
        return x * self.std + self.mean
