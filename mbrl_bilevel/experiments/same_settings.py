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
    for key in dict.fromkeys([*own, *asked]):  # overrides need not have the same keys
        if key not in asked:
            yield f"{prefix}{key} is {own[key]!r}, not left out"
        elif key not in own:
            yield f"{prefix}{key} is not there"
        elif isinstance(own[key], Mapping) and isinstance(asked[key], Mapping):
            yield from _differences(own[key], asked[key], f"{prefix}{key}.")
        elif own[key] != asked[key]:
            yield f"{prefix}{key} is {own[key]!r}, not {asked[key]!r}"
