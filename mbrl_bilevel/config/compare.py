"""The configuration of `mbrl-bilevel compare`: objectives on tasks, over seeds."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mbrl_bilevel.config.base import NonNegativeInt, PositiveInt, StrictConfig

Label = Annotated[str, Field(min_length=1, pattern=r"^[\w.,=+-]+$")]
Overrides = dict[str, Any]


class ScoreConfig(StrictConfig):
    """The returns that count as 0 and as 1 when tasks are averaged."""

    low: float = Field(description="return that counts as 0: a random policy's, say")
    high: float = Field(description="return that counts as 1: a good policy's, say")

    @model_validator(mode="after")
    def _in_order(self) -> "ScoreConfig":
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} must be below high={self.high:g}")
        return self


class ComparedTask(StrictConfig):
    """A training configuration, and what of it is changed."""

    config: str = Field(description="name or path of a training configuration")
    label: Label = Field(description="of the task; the configuration's name by default")
    overrides: Overrides = Field(
        default_factory=dict, description="dotted keys and their values, for this task alone"
    )
    score: ScoreConfig | None = Field(
        default=None, description="scale of the returns; null: least and largest of all cells"
    )


class ComparedObjective(StrictConfig):
    """An objective, and what goes with it."""

    objective: dict[str, Any] = Field(description="its name and settings, as in a training run")
    label: Label = Field(description="the objective's name by default")
    overrides: Overrides = Field(
        default_factory=dict, description="dotted keys and their values, for this objective alone"
    )


class RayConfig(StrictConfig):
    """How cells are run by Ray."""

    address: str | None = Field(
        default=None, description="of a cluster, or auto; null: Ray is started on this machine"
    )


def _task(value: Any) -> Any:
    given = {"config": value} if isinstance(value, str) else value
    if isinstance(given, Mapping) and isinstance(given.get("config"), str):
        stem = given["config"].rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")
        return {"label": stem, **given}
    return given


def _objective(value: Any) -> Any:
    if isinstance(value, Mapping) and "objective" in value:
        given = dict(value)
        if isinstance(given["objective"], str):
            given["objective"] = {"name": given["objective"]}
    else:
        given = {"objective": {"name": value} if isinstance(value, str) else value}
    if isinstance(given["objective"], Mapping) and "name" in given["objective"]:
        return {"label": str(given["objective"]["name"]), **given}
    return given


class CompareConfig(StrictConfig):
    """Training runs of every objective on every task, over seeds (and any other key)."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")] = Field(
        description="names the folder of the runs; the file's name by default"
    )
    tasks: Annotated[list[Annotated[ComparedTask, BeforeValidator(_task)]], Field(min_length=1)] = (
        Field(description="training configurations: names, or mappings")
    )
    objectives: Annotated[
        list[Annotated[ComparedObjective, BeforeValidator(_objective)]], Field(min_length=1)
    ] = Field(description="names, or mappings {objective, label, overrides}")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict, description="further axes: dotted keys, and the values each takes"
    )
    overrides: Overrides = Field(
        default_factory=dict, description="dotted keys and their values, for all cells"
    )
    seeds: PositiveInt = Field(default=5, description="how many, counted from seed")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(default=0, description="the first seed")
    beside: list[str] = Field(
        default_factory=list,
        description="files in the form of results.jsonl: runs of other methods, to be shown beside",
    )
    reference: str | None = Field(
        default=None,
        description="label that the others are held against; null: bilevel, or the first objective",
    )
    engine: Literal["local", "ray"] = Field(
        default="local", description="what runs the cells: processes of this machine, or Ray"
    )
    ray: RayConfig = RayConfig()
    num_workers: NonNegativeInt = Field(
        default=0, description="cells at a time on this machine; 0: one a core"
    )
    retries: NonNegativeInt = Field(
        default=2, description="how often a cell is tried again whose process was killed"
    )
    resamples: PositiveInt = Field(default=2000, description="of the bootstrap, for intervals")

    @field_validator("tasks", "objectives")
    @classmethod
    def _labels_differ(cls, value: list[Any]) -> list[Any]:
        labels = [item.label for item in value]
        twins = sorted({label for label in labels if labels.count(label) > 1})
        if twins:
            raise ValueError(f"two are called {', '.join(twins)}: give each a label of its own")
        return value

    @model_validator(mode="after")
    def _reference_is_there(self) -> "CompareConfig":
        labels = [objective.label for objective in self.objectives]
        if self.reference is not None and self.reference not in labels:
            raise ValueError(f"reference={self.reference!r}; allowed: {', '.join(labels)}")
        return self

    @property
    def reference_label(self) -> str:
        """The objective that the others are held against."""
        labels = [objective.label for objective in self.objectives]
        return self.reference or ("bilevel" if "bilevel" in labels else labels[0])


def set_keys(data: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set dotted keys in nested data, in place; sections are merged into those that are there."""
    for key, value in changes.items():
        *parts, last = key.split(".")
        node = data
        for part in parts:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                child = node[part] = {}
            node = child
        present = node.get(last)
        if isinstance(value, Mapping) and isinstance(present, dict):
            set_keys(present, value)
        else:
            node[last] = value
