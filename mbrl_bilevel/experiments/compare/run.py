"""Runs the cells of a comparison that are not finished yet, and reports on all."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from mbrl_bilevel.config import load_data, to_yaml, validate
from mbrl_bilevel.config.compare import CompareConfig
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.evaluation.plots import save_figure
from mbrl_bilevel.experiments.compare.beside import read_beside
from mbrl_bilevel.experiments.compare.cell_run import Outcome
from mbrl_bilevel.experiments.compare.cells import Cell, method_label, plan
from mbrl_bilevel.experiments.compare.local import run_local
from mbrl_bilevel.experiments.compare.plots import make_figures
from mbrl_bilevel.experiments.compare.progress import CompareProgress, compare_progress
from mbrl_bilevel.experiments.compare.report import hparams_of, make_report
from mbrl_bilevel.experiments.compare.row_file import read_rows, write_rows
from mbrl_bilevel.experiments.compare.table import Row
from mbrl_bilevel.experiments.compare.with_ray import STOPPED, run_with_ray
from mbrl_bilevel.experiments.same_settings import check_same_settings
from mbrl_bilevel.runs import RunDir, strict_json, write_text_atomic

RESULTS_FILE = "results.jsonl"
REPORT_FILE = "report.md"
HOW = ("engine", "ray", "num_workers", "retries", "resamples", "beside")
"""Settings that change no cell."""
KEY = ("task", "objective", "axes", "seed", "config")


@dataclass(frozen=True)
class CompareResult:
    """What a comparison leaves.

    Attributes:
        status: `"completed"` (cells may have failed), or `"interrupted"` by Ctrl-C.
        rows: What results.jsonl holds, in the order of the plan.
        num_cells: Of the plan.
        report: Markdown.
    """

    status: str
    rows: list[Row]
    num_cells: int
    report: str

    @property
    def num_failed(self) -> int:
        """Cells that ended without a result."""
        return sum(row["status"] != "completed" for row in self.rows)


def compare(
    config: CompareConfig,
    run_path: Path,
    command: str,
    *,
    resume: bool = False,
    show_progress: bool = True,
) -> CompareResult:
    """Train every objective on every task with every seed.

    Writes config.yaml, results.jsonl (after each cell), report.md, plots/, hparams/ (for
    TensorBoard) and summary.json to the folder, and a run folder for each cell to cells/ in it.

    Args:
        config: What to compare, and how to run it.
        run_path: The folder; must hold no run yet, or, with `resume`, the one to go on with.
        command: What was typed. The report shows it, and below it those that added cells.
        resume: Keep the finished cells, go on with the interrupted ones and run the others again.
            How cells are run may change, and tasks, objectives, seeds and values of the grid may
            join; what is there may not change.
        show_progress: On stderr.

    Raises:
        ConfigError: A cell cannot be configured, or a file of `beside` cannot be used; nothing is
            written or run then.
        MBRLError: The folder cannot be written, or the engine cannot be started.
    """
    cells = plan(config, run_path)
    beside = read_beside(
        config.beside,
        {cell.task for cell in cells},
        {method_label(cell.objective, cell.axes) for cell in cells},
    )
    outcomes: dict[Path, Outcome] = {}
    commands = [command]
    if resume:
        run = RunDir.open(run_path)
        own = validate(CompareConfig, load_data(run.config_path))
        check_same_settings(run_path, own.model_copy(update=_may_differ(own, config)), config)
        outcomes = _finished(run, cells)
        commands = _earlier_commands(run)
        has_grown = own.model_copy(update={key: getattr(config, key) for key in HOW}) != config
        if has_grown or not commands:
            commands.append(command)
    else:
        run = RunDir.create(run_path)
        for unused in (run.checkpoints, run.videos):
            unused.rmdir()
    write_text_atomic(run.config_path, to_yaml(config))
    left = [cell for cell in cells if cell.folder not in outcomes]
    summary = {"name": config.name, "commands": commands, "num_cells": len(cells)}
    run.write_summary({"status": "running", **summary, "num_finished": len(outcomes)})
    status = "failed"
    try:
        with compare_progress(len(cells), len(outcomes), enabled=show_progress) as progress:
            for cell, outcome in _run(config, left, progress):
                if outcome["status"] == STOPPED:
                    continue
                outcomes[cell.folder] = outcome
                progress.finish(cell, outcome)
                write_rows(run.path / RESULTS_FILE, _rows(cells, outcomes))
        status = "completed"
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        rows = _rows(cells, outcomes)
        report = _conclude(config, run, rows, beside, commands)
        run.write_summary({"status": status, **summary, "num_finished": len(rows)})
    return CompareResult(status, rows, len(cells), report)


def _may_differ(own: CompareConfig, asked: CompareConfig) -> dict[str, Any]:
    """Return what is asked for where it changes or drops no cell of the run's own."""
    free: list[str] = list(HOW)
    if asked.seed <= own.seed and own.seed + own.seeds <= asked.seed + asked.seeds:
        free += ["seed", "seeds"]
    if all(task in asked.tasks for task in own.tasks):
        free.append("tasks")
    if all(objective in asked.objectives for objective in own.objectives):
        free.append("objectives")
    if own.grid.keys() == asked.grid.keys() and all(
        value in asked.grid[key] for key, values in own.grid.items() for value in values
    ):
        free.append("grid")
    return {key: getattr(asked, key) for key in free}


def _run(
    config: CompareConfig, cells: Sequence[Cell], progress: CompareProgress
) -> Iterator[tuple[Cell, Outcome]]:
    if not cells:
        return iter(())
    if config.engine == "local":
        return run_local(cells, config.num_workers, config.retries, progress)
    settings = config.num_workers, config.retries, config.ray.address
    return run_with_ray(cells, *settings, progress)


def _earlier_commands(run: RunDir) -> list[str]:
    """Return what was typed before, nothing for a folder without a summary that says it."""
    if not run.summary_path.is_file():
        return []
    return list(run.read_summary().get("commands", ()))


def _finished(run: RunDir, cells: Sequence[Cell]) -> dict[Path, Outcome]:
    """Return the outcomes in results.jsonl of cells that need not be run again."""
    path = run.path / RESULTS_FILE
    if not path.exists():
        return {}
    found = {}
    by_key = {strict_json.dumps(cell.key): cell for cell in cells}
    for number, row in enumerate(read_rows(path), start=1):
        try:
            key = {name: row.pop(name) for name in KEY}
        except (KeyError, AttributeError, TypeError) as error:
            raise MBRLError(f"{path}, line {number}: not a row of results ({error!r})") from error
        cell = by_key.get(strict_json.dumps(key))
        if cell is not None and row["status"] == "completed":
            found[cell.folder] = row
    return found


def _rows(cells: Sequence[Cell], outcomes: dict[Path, Outcome]) -> list[Row]:
    return [{**cell.key, **outcomes[cell.folder]} for cell in cells if cell.folder in outcomes]


def _conclude(
    config: CompareConfig,
    run: RunDir,
    rows: list[Row],
    beside: Sequence[Row],
    commands: Sequence[str],
) -> str:
    """Write rows, report, pictures and what TensorBoard shows of them; return the report."""
    write_rows(run.path / RESULTS_FILE, rows)
    report = make_report(config, rows, commands, beside)
    write_text_atomic(run.path / REPORT_FILE, report)
    for name, figure in make_figures(config, [*rows, *beside]).items():
        save_figure(figure, run.plots / f"{name}.png")
    hparams = run.path / "hparams"
    shutil.rmtree(hparams, ignore_errors=True)
    for number, row in enumerate(rows):
        if row["status"] == "completed":
            with SummaryWriter(str(hparams / f"{number:04d}")) as writer:
                # With a name of its own each call makes a second run.
                metrics = {"eval/final_return": row["eval_return_mean"]}
                writer.add_hparams(hparams_of(row), metrics, run_name=".")
    return report
