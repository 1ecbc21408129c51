"""From a name or path and `key=value` overrides to plain data, and from plain data to a model."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mbrl_bilevel.config.describe import describe_fields
from mbrl_bilevel.errors import ConfigError

NAMED_SECTIONS = ("objective", "agent.planner", "policy")
"""Sections that may be given as a bare name, and whose settings belong to that name."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def configs_dir() -> Path:
    """Return the folder of the shipped configurations: in the wheel, else in the checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"


def list_configs() -> list[str]:
    """Return the names of the shipped configurations, sorted."""
    return sorted(path.stem for path in configs_dir().glob("*.yaml"))


def find_config(name_or_path: str) -> Path:
    """Return the file of a configuration.

    Raises:
        ConfigError: if it is neither a file nor the name of a shipped configuration.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise ConfigError(f"configuration file {name_or_path!r} does not exist")
    shipped = configs_dir() / f"{name_or_path}.yaml"
    if shipped.is_file():
        return shipped
    raise ConfigError(
        f"no configuration {name_or_path!r}{_nearest(name_or_path, list_configs())}; "
        f"allowed: a path ending in .yaml, or one of {', '.join(list_configs())}"
    )


def load_data(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply dotted `key=value` overrides (values are YAML).

    `section=NAME`, for the sections that have a name, replaces the whole section: the settings of
    another objective or planner do not linger.

    Raises:
        ConfigError: if the file or an override cannot be read.
    """
    try:
        base = OmegaConf.load(path)
        data = OmegaConf.to_container(base, resolve=True)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"cannot read configuration {path}: {_first_line(error)}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"configuration {path} must be a mapping of keys to values")
    merged: dict[str, Any] = {str(key): value for key, value in data.items()}
    merged.setdefault("name", path.stem)
    for section in NAMED_SECTIONS:
        _expand_name(merged, section.split("."))
    for override in overrides:
        apply_override(merged, override)
    return merged


def validate(model: type[ModelT], data: Mapping[str, Any]) -> ModelT:
    """Return `data` as an instance of `model`.

    Raises:
        ConfigError: naming each key at fault, its value, what is allowed, and the nearest name.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        faults = [_explain(model, data, fault) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join(faults)) from None


def to_yaml(config: BaseModel) -> str:
    """Return the resolved configuration as YAML; loading it gives the same configuration."""
    # Not by yaml: it leaves strings such as 1e5 unquoted, which are read as numbers here.
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump()))


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one value in nested data by `dotted.key=value` (YAML).

    Raises:
        ConfigError: if it is not of that form, or leads through a value.
    """
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {override!r} is not of the form key=value")
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {override!r}: {_first_line(error)}") from None
    assert isinstance(value, dict)
    node = data
    for depth, part in enumerate(parts[:-1]):
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            parent = ".".join(parts[: depth + 1])
            raise ConfigError(
                f"unknown key {key!r}: {parent!r} is a value ({child!r}), not a section"
            )
        node = child
    node[parts[-1]] = value["value"]
    if key in NAMED_SECTIONS:
        _expand_name(data, parts)


def _expand_name(data: dict[str, Any], parts: list[str]) -> None:
    node: Any = data
    for part in parts[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict) and isinstance(node.get(parts[-1]), str):
        node[parts[-1]] = {"name": node[parts[-1]]}


def _explain(model: type[BaseModel], data: Mapping[str, Any], fault: ErrorDetails) -> str:
    path = _path_in_data(data, fault["loc"], is_missing=fault["type"] == "missing")
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return _explain_unknown(model, key, fault)
    if fault["type"] == "missing":
        return f"missing key {key!r}: it has no default"
    if fault["type"].startswith("union_tag"):
        tags = fault.get("ctx", {}).get("expected_tags", "").replace("'", "")
        section = fault["input"]
        given = section.get("name") if isinstance(section, dict) else section
        nearest = _nearest(str(given), tags.split(", "))
        return f"invalid value for {key + '.name'!r}: {given!r}{nearest}; allowed: {tags}"
    return f"invalid value for {key!r}: {fault['input']!r}; {fault['msg']}"


def _explain_unknown(model: type[BaseModel], key: str, fault: ErrorDetails) -> str:
    parent, _, name = key.rpartition(".")
    fields = list(describe_fields(model))
    # An error's location names the variants on the way: what the others have is not allowed here.
    present = [f.key for f in fields if f.variant in (None, *fault["loc"])]
    known = {*present, *(k.rpartition(".")[0] for k in present if "." in k)}
    siblings = {k.rpartition(".")[2]: k for k in sorted(known) if k.rpartition(".")[0] == parent}
    anywhere = {f.key.rpartition(".")[2]: f.key for f in fields}
    owners = [f.variant for f in fields if f.key == key and f.variant is not None]
    near = _closest(name, siblings) or _closest(name, anywhere)
    if owners:
        hint = f", a setting of {' and '.join(owners)} only"
    else:
        hint = f", did you mean {({**anywhere, **siblings})[near]!r}?" if near else ""
    where = f"in {parent!r}" if parent else "at the top level"
    names = ", ".join(siblings)
    return f"unknown key {key!r} (value {fault['input']!r}){hint}; allowed {where}: {names}"


def _path_in_data(data: Any, loc: tuple[int | str, ...], *, is_missing: bool) -> list[str]:
    """Drop from an error's location the names of union variants, which are not keys."""
    path: list[str] = []
    for depth, part in enumerate(loc):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if depth < len(loc) - 1 or not is_missing:
                continue
        path.append(str(part))
    return path


def _nearest(name: str, allowed: Iterable[str]) -> str:
    match = _closest(name, allowed)
    return f", did you mean {match!r}?" if match else ""


def _closest(name: str, allowed: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)), None)


def _first_line(error: Exception) -> str:
    return str(error).strip().replace("\n", " ")
