"""The scores of a comparison, by task and method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.config.compare import CompareConfig
from mbrl_bilevel.experiments.compare.cells import method_label

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Final returns of the finished cells.

    Attributes:
        tasks: Labels, in order; those that any cell has finished.
        methods: What is compared, in order; likewise.
        returns: By task and method, the returns of the seeds that have finished, `[num_seeds]`.
        seeds: Likewise, which seeds they are.
        scales: By task, the returns that count as 0 and as 1.
    """

    tasks: list[str]
    methods: list[str]
    returns: dict[tuple[str, str], NDArray[np.float64]]
    seeds: dict[tuple[str, str], list[int]]
    scales: dict[str, tuple[float, float]]

    def scores(self, method: str) -> list[NDArray[np.float64]] | None:
        """Return the method's scaled returns of each task; None if a task has none."""
        scores = []
        for task in self.tasks:
            if (task, method) not in self.returns:
                return None
            low, high = self.scales[task]
            scores.append((self.returns[task, method] - low) / (high - low))
        return scores

    def pairs(self, one: str, other: str) -> NDArray[np.float64]:
        """Return two methods' returns `[N, 2]` for each task and seed that both have finished."""
        found: list[tuple[float, float]] = []
        for task in self.tasks:
            ours, theirs = self._by_seed(task, one), self._by_seed(task, other)
            found += [(ours[seed], theirs[seed]) for seed in ours.keys() & theirs.keys()]
        return np.array(found).reshape(-1, 2)

    def _by_seed(self, task: str, method: str) -> dict[int, float]:
        key = task, method
        if key not in self.returns:
            return {}
        return dict(zip(self.seeds[key], self.returns[key].tolist(), strict=True))


def method_of(row: Row) -> str:
    """Return what a row's method is called: its objective, and the grid's values."""
    return method_label(row["objective"], row["axes"])


def make_table(config: CompareConfig, rows: Sequence[Row]) -> Table:
    """Return the table of the finished rows, which may be any part of all."""
    finished = [
        row
        for row in rows
        if row["status"] == "completed" and row.get("eval_return_mean") is not None
    ]
    values: dict[tuple[str, str], list[float]] = {}
    seeds: dict[tuple[str, str], list[int]] = {}
    for row in finished:
        key = row["task"], method_of(row)
        values.setdefault(key, []).append(row["eval_return_mean"])
        seeds.setdefault(key, []).append(row["seed"])
    tasks = [task.label for task in config.tasks if any(task.label == label for label, _ in values)]
    methods = list(dict.fromkeys(method_of(row) for row in finished))
    scales = {}
    for task in config.tasks:
        if task.label not in tasks:
            continue
        if task.score is not None:
            scales[task.label] = (task.score.low, task.score.high)
            continue
        seen = [
            value for (label, _), each in values.items() if label == task.label for value in each
        ]
        low, high = min(seen), max(seen)
        scales[task.label] = (low, high if high > low else low + 1.0)
    returns = {key: np.asarray(each) for key, each in values.items()}
    return Table(tasks, methods, returns, seeds, scales)
