"""Whether agents can be built for the spaces."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from mbrl_bilevel.environments import is_image, space_leaves
from mbrl_bilevel.experiments.check_env.report import Finding, found


def check_spaces(env: gym.Env[Any, Any]) -> Iterator[Finding]:
    """Look at both spaces alone."""
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, gym.Space):
            yield found("space_missing", f"{name} is {space!r}")
        elif name == "observation_space":
            yield from _check_observation_space(space)
        else:
            yield from _check_action_space(space)


def _check_observation_space(space: gym.Space[Any]) -> Iterator[Finding]:
    images = [(path, leaf) for path, leaf in space_leaves(space) if is_image(leaf)]
    for path, leaf in images:
        yield found("obs_space_image", f"observation{path} is an image, {leaf}")
    if images:
        return
    if isinstance(space, spaces.Dict | spaces.Tuple):
        if space.is_np_flattenable:
            size = spaces.flatdim(space)
            yield found("obs_space_flattened", f"{type(space).__name__} of {size} numbers in all")
        else:
            parts = [f"{path}: {s}" for path, s in space_leaves(space) if not s.is_np_flattenable]
            yield found("obs_space_unsupported", f"without a fixed size: {', '.join(parts)}")
    elif isinstance(space, spaces.Discrete):
        yield found("obs_space_discrete", f"observation space {space}")
    elif not (isinstance(space, spaces.Box) and len(space.shape) == 1):
        yield found("obs_space_unsupported", f"observation space {space}")


def _check_action_space(space: gym.Space[Any]) -> Iterator[Finding]:
    if isinstance(space, spaces.Box):
        unbounded = ~(np.isfinite(space.low) & np.isfinite(space.high)).reshape(-1)
        if unbounded.any():
            dimensions = tuple(np.flatnonzero(unbounded).tolist())
            yield found(
                "action_space_unbounded", f"action space {space}, dimensions {list(dimensions)}",
                dimensions=dimensions,
            )  # fmt: skip
    elif not isinstance(space, spaces.Discrete):
        yield found("action_space_unsupported", f"action space {space}")
