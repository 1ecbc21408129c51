"""Functions of a task whose observations have more dimensions appended to them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

StepFn = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FirstDimensions:
    """A reward or termination that sees the first dimensions of an observation alone.

    Two of the same function and size are equal, so that registering them again does nothing.

    Attributes:
        function: Of the observations without what is appended.
        size: How many dimensions it sees.
    """

    function: StepFn
    size: int

    def __call__(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return self.function(obs[..., : self.size], action, next_obs[..., : self.size])


def of_first_dimensions(function: StepFn | None, size: int) -> StepFn | None:
    """Return the function of the first dimensions; nothing stays nothing."""
    return None if function is None else FirstDimensions(function, size)
