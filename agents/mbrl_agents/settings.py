"""Settings given as Python arguments, checked as strictly as those of a file."""

from collections.abc import Mapping
from typing import Any, TypeVar

from mbrl_bilevel.config import ModelConfig, ObjectiveConfig, StrictConfig, validate

SettingsT = TypeVar("SettingsT", bound=StrictConfig)


class _Objective(StrictConfig):
    objective: ObjectiveConfig


class EnsembleSections(StrictConfig):
    """The sections of agents with a Gaussian ensemble."""

    objective: ObjectiveConfig
    model: ModelConfig


def agent_settings(config_class: type[SettingsT], settings: Mapping[str, Any]) -> SettingsT:
    """Return an agent's settings.

    Raises:
        ConfigError: If one is unknown or impossible.
    """
    return validate(config_class, {key: _plain(value) for key, value in settings.items()})


def model_settings(model: Mapping[str, Any] | ModelConfig | None) -> ModelConfig:
    """Return the model's settings; None: the defaults.

    Raises:
        ConfigError: If one is unknown or impossible.
    """
    return validate(ModelConfig, _plain(model or {}))


def objective_settings(objective: str | Mapping[str, Any] | ObjectiveConfig) -> ObjectiveConfig:
    """Return the settings of an objective given by name, mapping or object.

    Raises:
        ConfigError: If the name or a setting is unknown or impossible.
    """
    return validate(_Objective, {"objective": _plain(objective)}).objective


def section_settings(
    sections_class: type[SettingsT],
    objective: str | Mapping[str, Any] | StrictConfig | None,
    model: Mapping[str, Any] | StrictConfig | None,
) -> SettingsT:
    """Return the sections `objective` and `model`; None: the defaults.

    Raises:
        ConfigError: If a name or a setting is unknown or impossible.
    """
    given = {"objective": objective, "model": model}
    return validate(
        sections_class, {key: _plain(value) for key, value in given.items() if value is not None}
    )


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, StrictConfig) else value
