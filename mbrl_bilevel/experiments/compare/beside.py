"""Rows of methods that were run elsewhere, shown beside a comparison's own."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from mbrl_bilevel.config import validate
from mbrl_bilevel.config.base import NonNegativeInt, PositiveInt, StrictConfig
from mbrl_bilevel.config.compare import Label
from mbrl_bilevel.errors import ConfigError, MBRLError
from mbrl_bilevel.experiments.compare.row_file import read_rows
from mbrl_bilevel.experiments.compare.table import Row, method_of

Points = list[Annotated[list[float], Field(min_length=2, max_length=2)]]


class BesideRow(StrictConfig):
    """A finished run, as in results.jsonl, whose rows say more."""

    model_config = ConfigDict(extra="ignore")

    task: Label = Field(description="label of a task of the comparison; rows of others are ignored")
    objective: Label = Field(description="what the method is called")
    axes: dict[str, Any] = Field(default_factory=dict, description="as in grid")
    seed: NonNegativeInt
    status: Literal["completed"]
    eval_return_mean: float = Field(description="return after training")
    env_steps: PositiveInt = Field(description="of training")
    episodes: Points = Field(default_factory=list, description="[step, return] of training")
    evaluations: Points = Field(default_factory=list, description="[step, return] on the way")


def read_beside(
    files: Sequence[str], tasks: Collection[str], own_methods: Collection[str]
) -> list[Row]:
    """Return the finished rows of those tasks from files in the form of results.jsonl.

    Args:
        files: Paths, from the current folder.
        tasks: Labels of the comparison.
        own_methods: What the comparison's own methods are called.

    Raises:
        ConfigError: A file cannot be read, has a line that is no row, or none of those tasks; a
            method is called as one of the comparison's own; a run is there twice.
    """
    rows: list[Row] = []
    seen: dict[tuple[str, str, int], str] = {}
    for name in files:
        own = [row for row in _read(Path(name)) if row["task"] in tasks]
        if not own:
            raise ConfigError(f"beside: {name} has no finished run of {', '.join(sorted(tasks))}")
        for row in own:
            method = method_of(row)
            if method in own_methods:
                raise ConfigError(f"beside: {name} has {method!r}, which is compared here itself")
            key = row["task"], method, row["seed"]
            if key in seen:
                raise ConfigError(
                    f"beside: {row['task']}, {method}, seed {row['seed']} is in "
                    + (f"{name} twice" if seen[key] == name else f"{seen[key]} and in {name}")
                )
            seen[key] = name
        rows += own
    return rows


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        found = read_rows(path)
    except MBRLError as error:
        raise ConfigError(f"beside: {error}") from error
    rows = []
    for number, given in enumerate(found, start=1):
        try:
            if not isinstance(given, dict):
                raise ConfigError("not a mapping")
            if given.get("status") == "failed":
                continue
            rows.append(validate(BesideRow, given).model_dump())
        except ConfigError as error:
            message = f"beside: {path}, line {number}: no row of results: {error}"
            raise ConfigError(message) from error
    return rows
