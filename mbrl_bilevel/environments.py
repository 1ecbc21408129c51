"""Makes environments, with errors that name what is wrong with the request."""

from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import FlattenObservation

from mbrl_bilevel.errors import ConfigError, EnvError


def make_env(
    env_id: str, kwargs: Mapping[str, Any] | None = None, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """Return the environment `env_id`, Dict and Tuple observations flattened to a vector.

    Raises:
        ConfigError: If the id, its module or a keyword argument is not known.
        EnvError: If the environment itself fails while it is made, or cannot be flattened.
    """
    return flatten_observations(make_as_registered(env_id, kwargs, render_mode))


def make_as_registered(
    env_id: str,
    kwargs: Mapping[str, Any] | None = None,
    render_mode: str | None = None,
    *,
    disable_env_checker: bool | None = None,
) -> gym.Env[Any, Any]:
    """Return `gymnasium.make(env_id, **kwargs)`; `module:Id` imports the module first.

    Raises:
        ConfigError: If the id, its module or a keyword argument is not known.
        EnvError: If the environment itself fails while it is made.
    """
    arguments = dict(kwargs or {})
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    try:
        return gym.make(env_id, disable_env_checker=disable_env_checker, **arguments)
    except ModuleNotFoundError as error:
        module, colon, _ = env_id.partition(":")
        # Gymnasium raises a nameless error of its own, caused by the import's.
        missing = error.name or getattr(error.__cause__, "name", None)
        if colon and missing and f"{module}.".startswith(f"{missing}."):
            raise ConfigError(
                f"env.id={env_id!r}: no module {module!r} can be imported; "
                "is it installed, or in the current folder?"
            ) from None
        raise EnvError(f"environment {env_id!r} needs a module that is missing: {error}") from error
    except (
        gym.error.NameNotFound,
        gym.error.NamespaceNotFound,
        gym.error.VersionNotFound,
    ) as error:
        raise ConfigError(f"env.id={env_id!r} is not known: {error}") from None
    except gym.error.Error as error:
        raise ConfigError(f"env.id={env_id!r} cannot be made: {error}") from None
    except TypeError as error:
        if not kwargs:
            raise EnvError(f"environment {env_id!r} failed while it was made: {error}") from error
        raise ConfigError(
            f"env.kwargs={dict(kwargs or {})!r} do not fit {env_id!r}: {error}"
        ) from None
    except ConfigError as error:
        raise ConfigError(
            f"env.kwargs={dict(kwargs or {})!r} do not fit {env_id!r}: {error}"
        ) from None
    except Exception as error:
        raise EnvError(f"environment {env_id!r} failed while it was made: {error}") from error


def flatten_observations(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Return `env` with Dict and Tuple observations as one vector; any other stays as it is.

    Raises:
        EnvError: If a part is an image, or has no fixed size.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return env
    for path, part in space_leaves(space):
        if is_image(part):
            raise EnvError(
                f"observation{path} of {env_name(env)} is an image, {part}: images are not "
                "supported, observe a state vector instead"
            )
        if not part.is_np_flattenable:
            raise EnvError(
                f"observation{path} of {env_name(env)} is {part}, which has no fixed size; "
                "allowed in Dict and Tuple: Box, Discrete, MultiBinary, MultiDiscrete"
            )
    return FlattenObservation(env)


def space_leaves(space: gym.Space[Any], path: str = "") -> Iterator[tuple[str, gym.Space[Any]]]:
    """Yield every space that is no Dict or Tuple, with its path, such as `['goal'][0]`."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from space_leaves(part, f"{path}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from space_leaves(part, f"{path}[{index}]")
    else:
        yield path, space


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a space is one of images: three axes, or two of bytes."""
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) == 3 or (len(space.shape) == 2 and space.dtype == np.uint8)


def full_env_id(spec: EnvSpec) -> str:
    """Return an id that also imports what registers the environment, where that is a module."""
    entry = spec.entry_point
    module = ""
    if isinstance(entry, str):
        module = entry.partition(":")[0].partition(".")[0]
    elif isinstance(entry, type | FunctionType):  # registered where it is defined, as a rule
        module = entry.__module__
    is_known = module.partition(".")[0] in ("", "gymnasium", "__main__")
    return spec.id if is_known else f"{module}:{spec.id}"


def env_name(env: gym.Env[Any, Any]) -> str:
    """Return the id an environment was made by, or its class's name if it was made by hand."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
