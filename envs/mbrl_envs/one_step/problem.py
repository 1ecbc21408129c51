"""What a one-step environment is about, for any number of samples at once."""

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class OneStepProblem(Protocol):
    """Draws samples, and says what predictions of their targets are worth.

    One environment asks for one sample at a time, a vector environment for N of them: both get
    the same rewards.
    """

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Of one observation."""
        ...

    @property
    def action_space(self) -> gym.Space[Any]:
        """Of one prediction."""
        ...

    def sample(self, rng: np.random.Generator, num: int) -> tuple[Array, Array]:
        """Return observations `[N, D_x]` and their targets `[N, ...]`."""
        ...

    def check_actions(self, actions: Array) -> Array:
        """Return actions `[N, ...]` as they are judged.

        Raises:
            ValueError: They are no predictions: of another shape, not finite, not in the space.
        """
        ...

    def reward(self, actions: Array, targets: Array, obs: Array) -> NDArray[np.float64]:
        """Return the rewards `[N]` of checked actions."""
        ...

    def infos(self, actions: Array, targets: Array) -> dict[str, Array]:
        """Return what the agent must not see before it acts, `[N, ...]` each."""
        ...
