"""What the outputs of a model mean: the parameters of a distribution over targets."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError


class Head(ABC):
    """Reads a model's outputs `z [*S, n]` as a distribution over targets.

    Attributes:
        name: What it is called in configurations.
        num_outputs: n, how many outputs the model needs.
        reparameterisable: Whether samples are differentiable in z.
    """

    name: ClassVar[str]
    num_outputs: int
    reparameterisable: ClassVar[bool] = True

    @abstractmethod
    def log_prob(self, z: Tensor, y: Tensor) -> Tensor:
        """Return `log p(y | z)`, summed over dimensions, in nats: `[*S]`."""

    @abstractmethod
    def entropy(self, z: Tensor) -> Tensor:
        """Return the (differential) entropy in nats, `[*S]`."""

    @abstractmethod
    def noise(self, z: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
        """Draw what `sample` needs for K samples, `[K, *S, m]`, from a generator on the CPU."""

    @abstractmethod
    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """Return a target for every row of noise, `[K, *S, D]` (classes: `[K, *S]`)."""

    def precondition(self, z: Tensor, exponent: float) -> Tensor:
        """Return z itself, with a gradient that is multiplied by the inverse Fisher metric.

        Args:
            z: `[*S, n]`.
            exponent: Power of the metric: 0 is the plain gradient, 1 the natural one.

        Raises:
            ConfigError: The head has no such metric, and the exponent is not 0.
        """
        if exponent != 0:
            raise ConfigError(f"head {self.name!r} has no natural gradient; allowed exponent: 0")
        return z

    def check_outputs(self, z: Tensor) -> None:
        """Raise ValueError unless z ends in n outputs."""
        if z.ndim == 0 or z.shape[-1] != self.num_outputs:
            raise ValueError(
                f"the model's outputs have shape {list(z.shape)}; head {self.name!r} needs "
                f"[..., {self.num_outputs}]"
            )

    @abstractmethod
    def check_targets(self, y: Tensor) -> None:
        """Raise ValueError unless y holds targets of this head; nan is refused too."""


def check_size(name: str, setting: str, value: int, minimum: int) -> int:
    """Return `value` if it is an integer of at least `minimum`.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigError(
            f"head {name!r}: {setting}={value!r}; it must be an integer of at least {minimum}"
        )
    return value


def check_real_targets(name: str, target_size: int, y: Tensor) -> None:
    """Raise ValueError unless y is finite, floating-point and `[..., D]`."""
    if y.ndim == 0 or y.shape[-1] != target_size:
        raise ValueError(
            f"the targets have shape {list(y.shape)}; head {name!r} needs [..., {target_size}]"
        )
    if not y.is_floating_point():
        raise ValueError(f"the targets have dtype {y.dtype}; head {name!r} needs floating-point")
    bad = ~torch.isfinite(y)
    if bad.any():
        row = bad.reshape(-1, target_size).any(dim=-1).nonzero()[0].item()
        raise ValueError(f"the targets hold nan or infinity ({int(bad.sum())} values; row {row})")
