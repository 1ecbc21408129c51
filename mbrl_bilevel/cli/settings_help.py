"""The settings that `--help` ends with."""

from dataclasses import replace
from typing import TYPE_CHECKING

from mbrl_bilevel.cli.listings import first_line

if TYPE_CHECKING:
    from mbrl_bilevel.config import FieldDescription


def describe_config() -> str:
    """Return the list of configuration fields that `train --help` ends with."""
    from mbrl_bilevel import build
    from mbrl_bilevel.config import describe_fields

    lines = ["configuration fields (override with key=value; CONFIG sets its own defaults):"]
    for agent in build.agent_names():
        fields = list(describe_fields(build.config_model({"agent": {"name": agent}})))
        lines += [f"\n  agent {agent}:", *_field_lines(fields)]
    return "\n".join(lines) + "\n"


def describe_collect() -> str:
    """Return the list of configuration fields that `collect --help` ends with."""
    from mbrl_bilevel.config import CollectConfig, describe_fields

    lines = ["configuration fields (override with key=value; CONFIG sets its own defaults):"]
    return "\n".join([*lines, *_field_lines(list(describe_fields(CollectConfig)))]) + "\n"


def describe_fit() -> str:
    """Return the list of configuration fields that `fit --help` ends with."""
    from mbrl_bilevel.config import OBJECTIVE_CONFIGS, describe_fields
    from mbrl_bilevel.config.fit import FitConfig

    lines = ["configuration fields (override with key=value; lists as [a,b]):"]
    # A list of models has no short name; their settings follow below.
    lines += _field_lines(
        [
            replace(field, type="name | mapping | list") if field.key == "objective" else field
            for field in describe_fields(FitConfig)
        ]
    )
    for name, model in OBJECTIVE_CONFIGS.items():
        lines += [f"\n  objective {name}: {first_line(model)}"]
        fields = [field for field in describe_fields(model) if field.key != "name"]
        lines += _field_lines(fields) if fields else []
    return "\n".join(lines) + "\n"


def describe_compare() -> str:
    """Return the list of configuration fields that `compare --help` ends with."""
    from mbrl_bilevel.config import FieldDescription, describe_fields
    from mbrl_bilevel.config.compare import CompareConfig, ComparedObjective, ComparedTask

    lines = ["configuration fields (override with key=value; lists as [a,b]):"]
    short = {"tasks": "list[name | mapping]", "objectives": "list[name | mapping]"}
    own = [f for f in describe_fields(CompareConfig) if f.key.partition(".")[0] not in short]
    lists = [
        FieldDescription(key, text, "required", CompareConfig.model_fields[key].description or "")
        for key, text in short.items()
    ]
    lines += _field_lines(lists + own)
    for title, model in (("a task", ComparedTask), ("an objective", ComparedObjective)):
        lines += [f"\n  {title}: {first_line(model)}", *_field_lines(list(describe_fields(model)))]
    return "\n".join(lines) + "\n"


def describe_figures() -> str:
    """Return the list of settings that `reproduce --help` ends with."""
    from mbrl_bilevel.config import describe_fields
    from mbrl_bilevel.config.reproduce import REPRODUCE_CONFIGS

    lines = ["settings (override with key=value; lists as [a,b]):"]
    for name, model in REPRODUCE_CONFIGS.items():
        lines += [f"\n  {name}: {first_line(model)}", *_field_lines(list(describe_fields(model)))]
    return "\n".join(lines) + "\n"


def _field_lines(fields: "list[FieldDescription]") -> list[str]:
    width = max(len(field.key) for field in fields)
    lines = []
    for field in fields:
        only = f" [only for {field.variant}]" if field.variant else ""
        lines.append(
            f"    {field.key:<{width}}  {field.type} = {field.default}\n"
            f"    {'':<{width}}      {field.meaning}{only}"
        )
    return lines
