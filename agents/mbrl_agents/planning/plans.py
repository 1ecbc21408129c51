"""Distributions over plans, for continuous and for discrete actions.

A plan is a sequence of action features `[H, A]`. A distribution is described by a centre
`[B, H, A]` and a spread `[B, H, A]` for each of B observations. All observations share the same
noise: an observation's plan does not depend on what else is in the batch.
"""

from typing import Protocol

import torch
from torch import Tensor

PROBABILITY_FLOOR = 0.05
"""Share of the uniform distribution mixed into refitted categorical ones: none dies out."""


class PlanDistribution(Protocol):
    """How plans are drawn and refitted."""

    size: int

    def prior_center(self, batch_size: int, horizon: int) -> Tensor:
        """Return the centre before anything is known, `[B, H, A]`."""
        ...

    def prior_spread(self, center: Tensor) -> Tensor:
        """Return the spread at the start of a search, `[B, H, A]`."""
        ...

    def sample(self, center: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal noise `[C, H, A]` into plans `[B, C, H, A]`."""
        ...

    def uniform(self, noise: Tensor, batch_size: int) -> Tensor:
        """Turn standard normal noise `[C, H, A]` into uniformly drawn plans `[B, C, H, A]`."""
        ...

    def refit(
        self, elites: Tensor, center: Tensor, spread: Tensor, momentum: float
    ) -> tuple[Tensor, Tensor]:
        """Return centre and spread fitted to elites `[B, K, H, A]`, mixed with the old ones."""
        ...

    def average(self, plans: Tensor, weights: Tensor) -> Tensor:
        """Return the centre of plans `[B, C, H, A]` with weights `[B, C]` that sum to one."""
        ...

    def as_plan(self, center: Tensor) -> Tensor:
        """Return the plan that the centre stands for, `[B, H, A]`."""
        ...


class GaussianPlans:
    """Box actions, scaled to [-1, 1]: independent Gaussians, clipped.

    Args:
        size: Action features A.
        initial_std: Spread at the start of a search.
        device: Where plans live.
    """

    def __init__(self, size: int, initial_std: float, device: torch.device) -> None:
        self.size = size
        self.initial_std = initial_std
        self.device = device

    def prior_center(self, batch_size: int, horizon: int) -> Tensor:
        return torch.zeros(batch_size, horizon, self.size, device=self.device)

    def prior_spread(self, center: Tensor) -> Tensor:
        return torch.full_like(center, self.initial_std)

    def sample(self, center: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        return (center[:, None] + spread[:, None] * noise).clamp(-1.0, 1.0)

    def uniform(self, noise: Tensor, batch_size: int) -> Tensor:
        plans: Tensor = 2 * torch.special.ndtr(noise) - 1
        return plans.expand(batch_size, *plans.shape)

    def refit(
        self, elites: Tensor, center: Tensor, spread: Tensor, momentum: float
    ) -> tuple[Tensor, Tensor]:
        new_center, new_spread = elites.mean(dim=1), elites.std(dim=1, correction=0)
        return new_center.lerp(center, momentum), new_spread.lerp(spread, momentum)

    def average(self, plans: Tensor, weights: Tensor) -> Tensor:
        return (weights[:, :, None, None] * plans).sum(dim=1)

    def as_plan(self, center: Tensor) -> Tensor:
        return center


class CategoricalPlans:
    """Discrete actions, one-hot: the centre holds probabilities, the spread is not used.

    Args:
        size: Number of actions A.
        device: Where plans live.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device

    def prior_center(self, batch_size: int, horizon: int) -> Tensor:
        return torch.full((batch_size, horizon, self.size), 1 / self.size, device=self.device)

    def prior_spread(self, center: Tensor) -> Tensor:
        return torch.zeros_like(center)

    def sample(self, center: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        del spread
        # The Gumbel-max trick on Gaussian noise turned Gumbel: noise that is correlated over
        # time gives actions that persist, and every step keeps its probabilities.
        uniform = torch.special.ndtr(noise).clamp(1e-6, 1 - 1e-6)
        gumbel = -(-uniform.log()).log()
        choice = (center[:, None].log() + gumbel).argmax(dim=-1)
        return torch.nn.functional.one_hot(choice, self.size).to(center.dtype)

    def uniform(self, noise: Tensor, batch_size: int) -> Tensor:
        center = self.prior_center(batch_size, noise.shape[1])
        return self.sample(center, center, noise)

    def refit(
        self, elites: Tensor, center: Tensor, spread: Tensor, momentum: float
    ) -> tuple[Tensor, Tensor]:
        return self._above_the_floor(elites.mean(dim=1).lerp(center, momentum)), spread

    def average(self, plans: Tensor, weights: Tensor) -> Tensor:
        return self._above_the_floor((weights[:, :, None, None] * plans).sum(dim=1))

    def as_plan(self, center: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(center.argmax(dim=-1), self.size).to(center.dtype)

    def _above_the_floor(self, probabilities: Tensor) -> Tensor:
        return probabilities.lerp(self.prior_center(*probabilities.shape[:2]), PROBABILITY_FLOOR)
