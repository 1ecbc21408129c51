"""The training runs that a comparison consists of."""

import copy
import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mbrl_bilevel import build
from mbrl_bilevel.config import TrainConfig, find_config, load_data, to_yaml
from mbrl_bilevel.config.compare import CompareConfig, ComparedObjective, ComparedTask, set_keys
from mbrl_bilevel.errors import ConfigError

CELLS = "cells"
"""Folder of the runs, in that of the comparison."""


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        task: Label of its task.
        objective: Label of its objective.
        axes: What it has of the grid, by dotted key.
        seed: Of everything random.
        config: All of it.
        folder: Of the run.
    """

    task: str
    objective: str
    axes: dict[str, Any]
    seed: int
    config: TrainConfig[Any] = field(repr=False)
    folder: Path

    @property
    def method(self) -> str:
        """What is compared: the objective, and the grid's values."""
        return method_label(self.objective, self.axes)

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"{self.task}, {self.method}, seed {self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What its row in results.jsonl begins with."""
        return {
            "task": self.task,
            "objective": self.objective,
            "axes": self.axes,
            "seed": self.seed,
            "config": self.digest,
        }

    @cached_property
    def digest(self) -> str:
        """Of its configuration: a row of results knows which one it is of."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @cached_property
    def text(self) -> str:
        """Its configuration, as YAML."""
        return to_yaml(self.config)


def method_label(objective: str, axes: Mapping[str, Any]) -> str:
    """Return what a method is called: its objective's label, and its values of the grid."""
    return ", ".join([objective, *(f"{key}={value}" for key, value in axes.items())])


def plan(config: CompareConfig, run_path: Path) -> list[Cell]:
    """Return all cells, seed by seed: what an interrupted comparison leaves can be compared.

    Raises:
        ConfigError: The configuration of a cell cannot be; the message names the cell.
    """
    points = [
        dict(zip(config.grid, values, strict=True))
        for values in itertools.product(*config.grid.values())
    ]
    bases = {task.label: load_data(find_config(task.config)) for task in config.tasks}
    cells = [
        _cell(config, task, objective, axes, seed, copy.deepcopy(bases[task.label]), run_path)
        for seed in range(config.seed, config.seed + config.seeds)
        for task in config.tasks
        for objective in config.objectives
        for axes in points
    ]
    for folder, count in Counter(cell.folder for cell in cells).items():
        if count > 1:
            raise ConfigError(f"two cells share the folder {folder}: values of grid repeat")
    return cells


def _cell(
    config: CompareConfig,
    task: ComparedTask,
    objective: ComparedObjective,
    axes: dict[str, Any],
    seed: int,
    data: dict[str, Any],
    run_path: Path,
) -> Cell:
    data["objective"] = dict(objective.objective)
    # One thread a cell: results do not depend on how many run at a time.
    fixed = {"seed": seed, "num_threads": 1}
    for changes in (config.overrides, task.overrides, objective.overrides, axes, fixed):
        set_keys(data, changes)
    parts = [task.label, objective.label, *(f"{key}={value}" for key, value in axes.items())]
    try:
        train_config = build.train_config(data)
    except ConfigError as error:
        raise ConfigError(f"cell {', '.join(parts)}: {error}") from None
    folder = run_path.joinpath(CELLS, *(part.replace("/", "_") for part in parts), f"s{seed}")
    return Cell(task.label, objective.label, axes, seed, train_config, folder)
