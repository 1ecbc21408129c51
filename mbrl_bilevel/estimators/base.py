"""What all estimators of the expected reward share."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import Head
from mbrl_bilevel.rewards import Reward


class Estimator(ABC):
    """Estimates `E_{y_hat ~ p(.|z)} r(y_hat, y, x)` and its derivatives in z.

    Attributes:
        name: What it is called in configurations.
        twice_differentiable: Whether automatic differentiation gives its second derivatives too.
        reason: If not, why.
    """

    name: ClassVar[str]
    twice_differentiable: ClassVar[bool] = True
    reason: ClassVar[str] = ""

    @abstractmethod
    def check(self, head: Head, reward: Reward) -> None:
        """Raise ConfigError if this head and this reward cannot be estimated so."""

    @abstractmethod
    def expected_reward(
        self,
        head: Head,
        z: Tensor,
        reward: Reward,
        y: Tensor,
        x: Tensor | None,
        behaviour: Tensor | None = None,
    ) -> Tensor:
        """Return the expected reward of every sample, `[*S]`.

        Args:
            head: Reads z.
            z: The model's outputs, `[*S, n]`.
            reward: To be judged by.
            y: Targets, `[*S, D]`, or classes `[*S]`.
            x: Inputs, `[*S, ...]`; None if the reward does not look at them.
            behaviour: Outputs `[*S, n]` of the model that the samples are drawn from; None: z
                itself. Only estimators that weight their samples look at it.
        """


class SampledEstimator(Estimator):
    """An estimator with K samples, drawn by noise that stays the same until `resample`.

    With frozen noise (common random numbers) the inner objective is a function like any other: the
    same parameters give the same loss, and an inner solution can be found to any precision.

    Args:
        num_samples: K.
        seed: Of the noise.

    Raises:
        ConfigError: K is less than `min_samples`, or the seed is negative.
    """

    min_samples: ClassVar[int] = 1

    def __init__(self, num_samples: int = 16, seed: int = 0) -> None:
        if num_samples < self.min_samples:
            raise ConfigError(
                f"estimator {self.name!r}: num_samples={num_samples}; it must be at least "
                f"{self.min_samples}"
            )
        if seed < 0:
            raise ConfigError(f"estimator {self.name!r}: seed={seed}; it must be at least 0")
        self.num_samples = num_samples
        self.seed = seed

    def resample(self) -> None:
        """Draw new noise from now on."""
        self.seed += 1

    def check(self, head: Head, reward: Reward) -> None:
        del head, reward

    def weighted_samples(
        self, head: Head, z: Tensor, behaviour: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return constant samples of the behaviour and their likelihood ratios to it, `[K, *S]`."""
        source = (z if behaviour is None else behaviour).detach()
        samples = self.draw(head, source)
        ratios = (head.log_prob(z, samples) - head.log_prob(source, samples)).exp()
        return samples, ratios

    def leave_one_out(self, rewards: Tensor) -> Tensor:
        """Return for each of K rewards `[K, *S]` the mean of the others."""
        return (rewards.sum(dim=0) - rewards) / (self.num_samples - 1)

    def draw(self, head: Head, z: Tensor) -> Tensor:
        """Return K samples of each distribution, `[K, *S, D]`; differentiable if the head's are."""
        generator = torch.Generator().manual_seed(self.seed)
        return head.sample(z, head.noise(z, self.num_samples, generator))
