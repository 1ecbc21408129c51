"""A figure or table from its settings to its run folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mbrl_bilevel.config import load_data, to_yaml, validate
from mbrl_bilevel.config.reproduce import Fig1Config, Fig2Config, Fig3Config, ReproduceConfig
from mbrl_bilevel.config.table3 import Table3Config
from mbrl_bilevel.config.tables import Table1Config, Table2Config
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.evaluation import save_figure
from mbrl_bilevel.experiments.reproduce import fig1, fig2, fig3, table1, table2, table3
from mbrl_bilevel.experiments.reproduce.outcome import Outcome
from mbrl_bilevel.experiments.reproduce.rows import Rows
from mbrl_bilevel.experiments.row_files import read_rows
from mbrl_bilevel.experiments.same_settings import check_same_settings
from mbrl_bilevel.runs import RunDir, count_progress, versions, write_json_atomic, write_text_atomic

RESULTS_FILE = "results.json"


def reproduce(
    config: ReproduceConfig, run_path: Path, *, resume: bool = False, show_progress: bool = True
) -> tuple[dict[str, Any], str]:
    """Compute a figure or table; write config.yaml, results.json, report.md and plots/ to a folder.

    The rows of a table are in results.json as they are finished.

    Args:
        config: Its class says of which.
        run_path: The folder; must hold no run yet, or, with `resume`, one of the same settings.
        resume: Keep the rows that are finished; for tables.
        show_progress: On stderr.

    Returns:
        What results.json and report.md hold.

    Raises:
        ConfigError: To resume: it is a figure, or the folder's settings are others.
        MBRLError: The folder cannot be written, the dataset of a table not be used, or a loss is
            not finite on the way.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    num_fits, compute = _prepare(config)
    run = _open(config, run_path) if resume else _create(config, run_path)
    results_path = run.path / RESULTS_FILE
    finished = read_rows(results_path) if resume else []
    what = f"{num_fits} models"
    with count_progress(num_fits, "fitting", what, enabled=show_progress) as advance:
        outcome = compute(Rows(results_path, advance, finished))
    results = {**outcome.results, "config": config.model_dump(), "versions": versions()}
    for name, figure in outcome.figures.items():
        save_figure(figure, run.plots / f"{name}.png")
    write_text_atomic(run.path / "report.md", outcome.report)
    write_json_atomic(results_path, results)
    return results, outcome.report


def can_resume(config: ReproduceConfig) -> bool:
    """Whether what is finished of an interrupted run is kept: of tables, which take long."""
    return isinstance(config, Table1Config | Table2Config | Table3Config)


def _prepare(config: ReproduceConfig) -> tuple[int, Callable[[Rows], Outcome]]:
    """Return how many models are fitted, and what fits them.

    A dataset is read here, before there is a folder: one that cannot be used leaves none behind.
    """
    match config:
        case Fig1Config():
            return fig1.num_fits(config), lambda rows: fig1.compute(config, rows.advance)
        case Fig2Config():
            return fig2.num_fits(config), lambda rows: fig2.compute(config, rows.advance)
        case Fig3Config():
            return fig3.num_fits(config), lambda rows: fig3.compute(config, rows.advance)
        case Table1Config():
            tables = table1.load_datasets(config)
            return table1.num_fits(config), partial(table1.compute, config, tables)
        case Table2Config():
            tables = table1.load_datasets(config)
            return table2.num_fits(config), partial(table2.compute, config, tables)
        case Table3Config():
            dataset = table3.load_dataset(config)
            return table3.num_fits(config), partial(table3.compute, config, dataset)
    raise TypeError(f"{type(config).__name__} is no figure's or table's configuration")


def _create(config: ReproduceConfig, run_path: Path) -> RunDir:
    run = RunDir.create(run_path)
    for unused in (run.checkpoints, run.videos):  # nothing here is filmed, or has weights to keep
        unused.rmdir()
    write_text_atomic(run.config_path, to_yaml(config))
    return run


def _open(config: ReproduceConfig, run_path: Path) -> RunDir:
    """Return the folder of a run that was started with the same settings."""
    if not can_resume(config):
        raise ConfigError("--resume: only tables can go on; a figure is soon computed anew")
    run = RunDir.open(run_path)
    own = load_data(run.config_path)
    del own["name"]
    check_same_settings(run_path, validate(type(config), own), config)
    return run
