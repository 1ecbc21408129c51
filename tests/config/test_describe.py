"""The list of all fields, as `--help` shows it."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, Field

from mbrl_bilevel.config import (
    OBJECTIVE_CONFIGS,
    FieldDescription,
    StrictConfig,
    describe_fields,
)
from tests.config.cases import RunConfig, ShootingConfig, TreeConfig, minimal_data

FIELDS = list(describe_fields(RunConfig))


def leaves(data: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def of(key: str) -> FieldDescription:
    (field,) = [field for field in FIELDS if field.key == key]
    return field


class WithOptionalSection(StrictConfig):
    tree: TreeConfig | None = Field(default=None, description="how to grow")


def test_a_section_that_may_be_missing_is_listed_with_its_fields() -> None:
    section, _name, depth = describe_fields(WithOptionalSection)
    assert section == FieldDescription("tree", "mapping | null", "null", "how to grow")
    assert (depth.key, depth.default) == ("tree.depth", "3")


VARIANTS: list[tuple[str, type[BaseModel]]] = [
    *((f"objective={name}", model) for name, model in OBJECTIVE_CONFIGS.items()),
    ("agent.planner=shooting", ShootingConfig),
    ("agent.planner=tree", TreeConfig),
]


@pytest.mark.parametrize(("choice", "model"), VARIANTS)
def test_every_leaf_of_every_variant_is_listed(choice: str, model: type[BaseModel]) -> None:
    section, _, name = choice.partition("=")
    data = minimal_data()
    node = data if section == "objective" else data["agent"]
    node[section.rpartition(".")[2]] = name
    dumped = RunConfig.model_validate(data).model_dump()
    present = (None, dumped["objective"]["name"], dumped["agent"]["planner"]["name"])
    assert set(leaves(dumped)) == {field.key for field in FIELDS if field.variant in present}
    expected = {f"{section}.{field}" for field in model.model_fields} - {f"{section}.name"}
    assert {f.key for f in FIELDS if f.variant == name} == expected


def test_no_field_is_listed_twice() -> None:
    keys = [(field.key, field.variant) for field in FIELDS]
    assert len(keys) == len(set(keys))


def test_every_setting_says_what_it_means() -> None:
    unexplained = {field.key for field in FIELDS if not field.meaning}
    assert unexplained == {"agent.name"}


@pytest.mark.parametrize(
    ("key", "type_", "default"),
    [
        ("env.id", "str", "required"),
        ("env.kwargs", "dict[str, Any]", "{}"),
        ("total_timesteps", "int >=1", "required"),
        ("seed", "int >=0 <4294967296", "0"),
        ("device", "auto | cpu | cuda", "auto"),
        ("eval.video", "bool", "true"),
        ("model.lr", "float >0", "0.001"),
        ("model.num_elite_members", "int >=1 | null", "null"),
        ("model.hidden_sizes", "list[int >=1]", "[128, 128, 128]"),
        ("model.held_out_fraction", "float >0 <1", "0.2"),
        ("objective.name", "mse | nll | beta_nll | pg | bilevel", "bilevel"),
        ("objective.beta", "float >=0 <=1", "0.5"),
        ("agent.planner.name", "shooting | tree", "shooting"),
        ("agent.planner.depth", "int >=1 <=9", "3"),
    ],
)
def test_types_limits_and_defaults(key: str, type_: str, default: str) -> None:
    assert (of(key).type, of(key).default) == (type_, default)


def test_fields_of_a_variant_name_it() -> None:
    assert of("objective.beta").variant == "beta_nll"
    assert of("objective.name").variant is None
    assert of("seed").variant is None
