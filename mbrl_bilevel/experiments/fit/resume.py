"""Goes on with an interrupted fit, or says why it cannot."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbrl_bilevel.config import load_data
from mbrl_bilevel.config.fit import FitConfig, fit_config
from mbrl_bilevel.data.datasets import EpisodeDataset
from mbrl_bilevel.errors import ConfigError, DatasetError, MBRLError
from mbrl_bilevel.experiments.fit.jobs import Job
from mbrl_bilevel.runs import RunDir


def open_fit(run_path: Path) -> tuple[RunDir, FitConfig]:
    """Return the folder of a fit, and the configuration that it was started with.

    Raises:
        MBRLError: It is not the folder of a fit.
    """
    run = RunDir.open(run_path)
    try:
        config = fit_config(load_data(run.config_path))
    except ConfigError as error:
        reason = str(error).partition("\n")[0]
        raise MBRLError(f"{run_path} is not the folder of a fit: {reason}") from error
    if not run.summary_path.is_file():
        raise MBRLError(f"{run_path} is not the folder of a fit: it has no summary.json")
    return run, config


def is_completed(run: RunDir, jobs: Sequence[Job], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is nothing left to do: neither models nor the report on them."""
    return len(rows) == len(jobs) and run.read_summary().get("status") == "completed"


def identity(config: FitConfig, dataset: EpisodeDataset) -> dict[str, Any]:
    """Return what summary.json says about the dataset, and what must not change."""
    return {
        "dataset": dataset.name,
        "dataset_path": config.dataset.path,
        "num_episodes": dataset.num_episodes,
        "num_steps": dataset.num_steps,
    }


def check_dataset(run: RunDir, config: FitConfig, dataset: EpisodeDataset) -> None:
    """Raise a DatasetError if it is not the dataset that the fit was started on."""
    summary = run.read_summary()
    for key, value in identity(config, dataset).items():
        if summary.get(key) != value:
            raise DatasetError(
                f"dataset {config.dataset.path} is not the one that {run.path} was started on: "
                f"its {key} is {value!r}, and was {summary.get(key)!r}"
            )


def discard_unfinished(jobs: Sequence[Job]) -> None:
    """Remove the folders of models that were not finished."""
    for job in jobs:
        if job.folder.is_dir():
            shutil.rmtree(job.folder)
