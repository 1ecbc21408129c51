"""What every dataset must satisfy, whatever its format."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.data.actions import observation_size
from mbrl_bilevel.errors import DatasetError, EnvError


def check_observation_space(name: str, space: gym.Space[Any]) -> gym.spaces.Box:
    """Return the space as it is, if models can predict in it.

    Raises:
        DatasetError: If it is anything but a one-dimensional Box.
    """
    try:
        observation_size(space)
    except EnvError as error:
        raise DatasetError(f"dataset {name}: {error}") from None
    assert isinstance(space, gym.spaces.Box)
    return space


def bounded_action_space(
    name: str, space: gym.Space[Any], actions: NDArray[Any]
) -> gym.spaces.Box | gym.spaces.Discrete:
    """Return the action space, with the range of the data where a bound is infinite.

    Args:
        name: Of the dataset.
        space: As the dataset says.
        actions: Stored actions, `[N, D_act]` for Box and `[N]` for Discrete.

    Raises:
        DatasetError: If it is neither Box nor Discrete.
    """
    if isinstance(space, gym.spaces.Discrete):
        return space
    if not isinstance(space, gym.spaces.Box):
        raise DatasetError(
            f"dataset {name}: action space {space} is not supported; allowed: Box, Discrete"
        )
    if space.is_bounded("both"):
        return space
    lowest, highest = actions.min(axis=0), actions.max(axis=0)
    low = np.where(np.isfinite(space.low), space.low, lowest.reshape(space.shape))
    high = np.where(np.isfinite(space.high), space.high, highest.reshape(space.shape))
    return gym.spaces.Box(low.astype(np.float32), high.astype(np.float32))


def check_finite(where: str, what: str, values: NDArray[Any]) -> None:
    """Raise a DatasetError for the first value of `[T, ...]` that is nan or infinite.

    Args:
        where: The dataset and the episode.
        what: What a row is, e.g. `observation`; row t is that of step t.
        values: Numbers.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    step, *entry = (int(i) for i in np.argwhere(~finite)[0])
    label = f" entry {entry[0]}" if entry else ""
    raise DatasetError(f"{where}, step {step}: {what}{label} is {values[(step, *entry)]}")
