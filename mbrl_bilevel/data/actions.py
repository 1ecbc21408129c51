"""Between an environment's actions and the features that models and planners work with."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.environments import is_image
from mbrl_bilevel.errors import EnvError


class ActionCodec:
    """Encodes actions: Box to `[-1, 1]` per dimension, Discrete to one-hot.

    Args:
        space: A bounded Box or a Discrete action space.
        device: Where encoded actions live.

    Raises:
        EnvError: For any other action space, or a Box without finite bounds.
    """

    def __init__(self, space: gym.Space[Any], device: torch.device | str = "cpu") -> None:
        self.space = space
        self.device = torch.device(device)
        if isinstance(space, spaces.Discrete):
            self.is_discrete = True
            self.size = int(space.n)
            self.start = int(space.start)
        elif isinstance(space, spaces.Box):
            if not space.is_bounded("both"):
                raise EnvError(
                    f"action space {space} has no finite bounds; allowed: Discrete, or Box with "
                    "finite bounds (gymnasium.wrappers.RescaleAction or ClipAction can set them)"
                )
            self.is_discrete = False
            self.size = int(np.prod(space.shape))
            self._low = space.low.reshape(-1).astype(np.float64)
            self._high = space.high.reshape(-1).astype(np.float64)
            middle, half = (self._high + self._low) / 2, (self._high - self._low) / 2
            self._middle = torch.as_tensor(middle, dtype=torch.float32, device=self.device)
            self._half = torch.as_tensor(half, dtype=torch.float32, device=self.device)
            # A dimension with one value only has no width to divide by: it encodes to 0.
            self._divisor = torch.where(self._half > 0, self._half, 1.0)
        else:
            raise EnvError(f"action space {space} is not supported; allowed: Box, Discrete")

    @property
    def flat_shape(self) -> tuple[int, ...]:
        """Shape of one stored action: `[D_act]` for Box (flattened), `[]` for Discrete."""
        return () if self.is_discrete else (self.size,)

    def flatten(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Return environment actions `[B, *shape]` as stored: `[B, D_act]` or `[B]` (int64)."""
        if self.is_discrete:
            return np.asarray(actions, dtype=np.int64).reshape(len(actions))
        return np.asarray(actions, dtype=np.float32).reshape(len(actions), self.size)

    def encode(self, actions: NDArray[Any] | Tensor) -> Tensor:
        """Return features `[B, size]` of stored actions `[B, D_act]` (Box) or `[B]` (Discrete)."""
        if self.is_discrete:
            index = torch.as_tensor(actions, dtype=torch.int64, device=self.device) - self.start
            return torch.nn.functional.one_hot(index, self.size).float()
        raw = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        return ((raw - self._middle) / self._divisor).clamp(-1.0, 1.0)

    def decode(self, features: Tensor) -> Tensor:
        """Return the environment's actions of features `[..., size]`, as `RewardFn` takes them."""
        if self.is_discrete:
            return features.argmax(dim=-1) + self.start
        return self._middle + self._half * features

    def to_env(self, features: Tensor) -> NDArray[Any]:
        """Return actions `[B, *shape]` for `env.step`, inside the space and of its dtype."""
        actions = self.decode(features).cpu().numpy()
        if self.is_discrete:
            return np.asarray(actions, dtype=self.space.dtype)
        clipped = np.clip(actions, self._low, self._high)
        if np.issubdtype(self.space.dtype, np.integer):
            clipped = np.rint(clipped)
        shaped: NDArray[Any] = clipped.reshape(len(clipped), *(self.space.shape or ()))
        return shaped.astype(self.space.dtype)


def observation_size(space: gym.Space[Any]) -> int:
    """Return the number of observation dimensions.

    Raises:
        EnvError: If the space is not a one-dimensional Box of numbers.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    if is_image(space):
        hint = "images are not supported: learn from a state vector instead"
    else:
        hint = "gymnasium.wrappers.FlattenObservation makes one from most spaces"
    raise EnvError(
        f"observation space {space} is not supported; allowed: one-dimensional Box ({hint})"
    )
