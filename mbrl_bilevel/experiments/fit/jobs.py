"""The models of a fit in the order of fitting, and what is finished of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mbrl_bilevel.config import ObjectiveConfig
from mbrl_bilevel.config.fit import FitConfig
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.experiments import row_files
from mbrl_bilevel.experiments.fit.fans import Fan, load_fan
from mbrl_bilevel.experiments.fit.plots import Curve
from mbrl_bilevel.runs import RunDir, read_metrics

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Job:
    """A model to train and judge.

    Attributes:
        label: Of its objective.
        objective: What it is trained by.
        seed: Of everything random.
        folder: Of its logs.
    """

    label: str
    objective: ObjectiveConfig
    seed: int
    folder: Path


@dataclass
class Finished:
    """What is known of the finished models, in the order of fitting.

    Attributes:
        rows: As in results.json.
        curves: Of training, one a row.
        fans: By objective, of the first seed.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    fans: dict[str, Fan] = field(default_factory=dict)

    def add(self, row: dict[str, Any], curve: Curve, fan: Fan | None) -> None:
        """Take over the next model's."""
        self.rows.append(row)
        self.curves.append(curve)
        if fan is not None:
            self.fans[row["objective"]] = fan


def plan(config: FitConfig, run_path: Path) -> list[Job]:
    """Return the models, seed by seed: what an interrupted fit leaves can be compared."""
    return [
        Job(label, objective, seed, run_path / label / f"s{seed}")
        for seed in range(config.seed, config.seed + config.seeds)
        for label, objective in zip(config.labels, config.objective, strict=True)
    ]


def read_rows(run: RunDir, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Return the rows of results.json: those of the first jobs, or none. Null becomes nan.

    Raises:
        MBRLError: results.json is damaged, or its rows are not those of the jobs.
    """
    path = run.path / RESULTS_FILE
    rows = [_with_nan(row) for row in row_files.read_rows(path)]
    if len(rows) > len(jobs):
        raise MBRLError(f"{path} holds {len(rows)} results, and config.yaml asks for {len(jobs)}")
    for number, (row, job) in enumerate(zip(rows, jobs, strict=False), start=1):
        found = row.get("objective"), row.get("seed")
        if found != (job.label, job.seed):
            raise MBRLError(
                f"{path}: result {number} is of {found[0]}, seed {found[1]}, and config.yaml "
                f"asks for {job.label}, seed {job.seed}"
            )
    return rows


def read_finished(rows: Sequence[dict[str, Any]], jobs: Sequence[Job]) -> Finished:
    """Return rows with what the folders of their jobs, the first ones, hold.

    Raises:
        MBRLError: A model's metrics.jsonl or fans.npz is damaged.
    """
    finished = Finished()
    for row, job in zip(rows, jobs, strict=False):
        finished.add(row, _read_curve(job), load_fan(job.folder))
    return finished


def _with_nan(value: Any) -> Any:
    """What was not finite is null in a file, and null again when written once more."""
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _read_curve(job: Job) -> Curve:
    curve = Curve(job.label)
    for metrics in read_metrics(RunDir(job.folder).metrics_path):
        if "model/val_rmse" in metrics:
            curve.add(metrics["step"], _with_nan(metrics))
    return curve
