"""The parts of nested observations."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium import spaces


def value_leaves(
    space: gym.Space[Any], value: Any, path: str = ""
) -> Iterator[tuple[str, gym.Space[Any], Any]]:
    """Yield path, space and value of every part; the whole, where it has not the space's form."""
    if isinstance(space, spaces.Dict) and isinstance(value, dict) and value.keys() == space.keys():
        for key, part in space.spaces.items():
            yield from value_leaves(part, value[key], f"{path}[{key!r}]")
    elif (
        isinstance(space, spaces.Tuple)
        and isinstance(value, tuple | list)
        and len(value) == len(space.spaces)
    ):
        for index, (part, item) in enumerate(zip(space.spaces, value, strict=True)):
            yield from value_leaves(part, item, f"{path}[{index}]")
    else:
        yield path, space, value
