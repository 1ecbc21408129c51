"""Finite spaces, counted from zero."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import EnvError


def discrete_spaces(env: gym.Env[Any, Any]) -> tuple[spaces.Discrete, spaces.Discrete]:
    """Return the spaces of observations and actions.

    Raises:
        EnvError: One is not Discrete.
    """
    found = []
    for what, space in (("observation", env.observation_space), ("action", env.action_space)):
        if not isinstance(space, spaces.Discrete):
            raise EnvError(
                f"{what} space {space} of {env_name(env)} is not supported by tabular agents; "
                "allowed: Discrete"
            )
        found.append(space)
    return found[0], found[1]
