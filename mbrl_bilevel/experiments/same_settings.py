"""A run that goes on keeps its settings."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mbrl_bilevel.errors import ConfigError


def check_same_settings(run_path: Path, own: BaseModel, asked: BaseModel) -> None:
    """Raise a ConfigError that names the keys in which the two differ, if there are any.

    Args:
        run_path: The folder of the run.
        own: The settings in its config.yaml.
        asked: Those that it is to go on with.
    """
    differences = list(_differences(own.model_dump(), asked.model_dump()))
    if differences:
        raise ConfigError(
            f"{run_path} goes on with its own config.yaml, where {'; '.join(differences)}; "
            "leave that out to go on, or name another folder with --run-dir"
        )


def _differences(
    own: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for key, value in own.items():
        other = asked[key]
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _differences(value, other, f"{prefix}{key}.")
        elif value != other:
            yield f"{prefix}{key} is {value!r}, not {other!r}"
