"""Makes environments, with errors that name what is wrong with the request."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from mbrl_bilevel.errors import ConfigError, EnvError


def make_env(
    env_id: str, kwargs: Mapping[str, Any] | None = None, render_mode: str | None = None
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
        return gym.make(env_id, **arguments)
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


def full_env_id(spec: EnvSpec) -> str:
    """Return an id that also imports what registers the environment, where that is a module."""
    entry = spec.entry_point
    module = entry.partition(":")[0].partition(".")[0] if isinstance(entry, str) else ""
    return spec.id if module in ("", "gymnasium") else f"{module}:{spec.id}"


def env_name(env: gym.Env[Any, Any]) -> str:
    """Return the id an environment was made by, or its class's name if it was made by hand."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
