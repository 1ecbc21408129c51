"""Between the spaces of an environment and the tensors of an imagined one."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.data import ActionCodec


def float32_box(space: gym.Space[Any]) -> spaces.Box:
    """Return a one-dimensional Box with its bounds in float32, as models predict in it."""
    assert isinstance(space, spaces.Box)
    with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def encode_actions(codec: ActionCodec, actions: Any, num_envs: int) -> Tensor:
    """Return features `[N, A]` of the environments' actions `[N, *shape]`, in their own units.

    Raises:
        ValueError: If the shape is another, or an action is not finite or no action at all.
    """
    array: NDArray[Any] = np.asarray(actions)
    shape = (num_envs, *(codec.space.shape or ()))
    if array.shape != shape:
        raise ValueError(f"actions have shape {array.shape}; allowed: {shape}")
    # Checked here, or the model would be blamed for what a policy has computed.
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array.reshape(num_envs, -1)).all(axis=1))[0])
        raise ValueError(f"action of environment {row} is not finite: {array[row]}")
    if codec.is_discrete:
        low, high = codec.start, codec.start + codec.size - 1
        if array.min() < low or array.max() > high:
            raise ValueError(
                f"actions range from {array.min()} to {array.max()}; allowed: {low} to {high}"
            )
    return codec.encode(codec.flatten(array))
