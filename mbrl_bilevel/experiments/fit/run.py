"""Fits models by every objective with every seed, and keeps what has been finished."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from mbrl_bilevel.config import to_yaml
from mbrl_bilevel.config.fit import FitConfig
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.data.datasets import EpisodeDataset, open_dataset
from mbrl_bilevel.experiments.fit.fans import Fan, FanRecorder, liveliest_dims, save_fan
from mbrl_bilevel.experiments.fit.jobs import (
    RESULTS_FILE,
    Finished,
    Job,
    plan,
    read_finished,
    read_rows,
)
from mbrl_bilevel.experiments.fit.judging import judge_one_step, judge_open_loop
from mbrl_bilevel.experiments.fit.outcome import read_report, write_report, write_summary
from mbrl_bilevel.experiments.fit.parts import Parts, deal_out
from mbrl_bilevel.experiments.fit.plots import Curve
from mbrl_bilevel.experiments.fit.progress import FitProgress, fit_progress
from mbrl_bilevel.experiments.fit.resume import (
    check_dataset,
    discard_unfinished,
    is_completed,
    open_fit,
)
from mbrl_bilevel.experiments.fit.training import train_model
from mbrl_bilevel.experiments.same_settings import check_same_settings
from mbrl_bilevel.runs import (
    MetricsLogger,
    RunDir,
    derive_seed,
    resolve_device,
    write_json_atomic,
    write_text_atomic,
)


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves.

    Attributes:
        status: `"completed"`, `"interrupted"` by Ctrl-C, or `"already completed"`: there was
            nothing to go on with.
        results: What results.json holds: `{"results": [row, ...]}`, a row for each objective and
            seed that was finished.
        report: Markdown; empty if nothing was finished.
    """

    status: str
    results: dict[str, list[dict[str, Any]]]
    report: str


def fit(
    config: FitConfig,
    run_path: Path,
    json_path: Path | None = None,
    *,
    resume: bool = False,
    show_progress: bool = True,
) -> FitResult:
    """Fit and judge a model for each objective and seed.

    Writes config.yaml, results.json (after each model), report.md, plots/ (and TensorBoard events
    with the same pictures) and summary.json to the run's folder, and metrics.jsonl with TensorBoard
    events to `<objective>/s<seed>/` in it; for the first seed fans.npz, too.

    Args:
        config: What to fit, and on what.
        run_path: The folder; must hold no run yet, or, with `resume`, the one to go on with.
        json_path: Gets a copy of results.json, whenever that is written.
        resume: Keep the models that are finished, and train the others; those that were being
            trained from the beginning. The results equal those of a fit that was not interrupted.
        show_progress: On stderr.

    Raises:
        MBRLError: The dataset cannot be used, the folder not be written, or training diverges;
            what was finished before stays. To resume: the folder is not that of a fit, or of
            another configuration or dataset.
    """
    jobs = plan(config, run_path)
    if resume:
        run, own_config = open_fit(run_path)
        check_same_settings(run.path, own_config, config)
        rows = read_rows(run, jobs)
        if is_completed(run, jobs, rows):
            return _already_completed(run, rows, json_path)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    device = resolve_device(config.device)
    dataset = open_dataset(config.dataset)
    codec = ActionCodec(dataset.action_space, device)
    # A dataset that cannot be split leaves no folder behind.
    dataset.split(config.split.fractions, seed=0)
    if resume:
        check_dataset(run, config, dataset)
        finished = read_finished(rows, jobs)
        discard_unfinished(jobs[len(rows) :])
        write_summary(config, dataset, run, finished, "running")
    else:
        run, finished = _create(config, dataset, run_path), Finished()
    jobs_left = jobs[len(finished.rows) :]
    results_paths = [run.path / RESULTS_FILE, *([json_path] if json_path is not None else [])]
    status = "failed"
    report = ""
    try:
        with fit_progress(
            len(jobs),
            config.model.num_updates,
            num_finished=len(finished.rows),
            enabled=show_progress,
        ) as progress:
            _fit_all(config, jobs_left, dataset, codec, results_paths, finished, progress)
        status = "completed"
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        # The summary comes last: what it calls completed is complete.
        report = write_report(config, dataset, run, finished)
        write_summary(config, dataset, run, finished, status)
    return FitResult(status, {"results": finished.rows}, report)


def _create(config: FitConfig, dataset: EpisodeDataset, run_path: Path) -> RunDir:
    run = RunDir.create(run_path)
    for unused in (run.checkpoints, run.videos):
        unused.rmdir()
    write_summary(config, dataset, run, Finished(), "running")
    # By config.yaml a folder is known as a run: what there must be to resume it is there by then.
    write_text_atomic(run.config_path, to_yaml(config))
    return run


def _already_completed(
    run: RunDir, rows: list[dict[str, Any]], json_path: Path | None
) -> FitResult:
    results = {"results": rows}
    if json_path is not None:
        write_json_atomic(json_path, results)
    return FitResult("already completed", results, read_report(run))


def _fit_all(
    config: FitConfig,
    jobs: Sequence[Job],
    dataset: EpisodeDataset,
    codec: ActionCodec,
    results_paths: Sequence[Path],
    finished: Finished,
    progress: FitProgress,
) -> None:
    """Fit models, one after the other, and add them to what is finished."""
    if finished.rows:
        _write_results(finished, results_paths)
    for seed, jobs_of_seed in groupby(jobs, attrgetter("seed")):
        parts = deal_out(dataset, config, seed)
        for job in jobs_of_seed:
            finished.add(*_fit_one(config, job, codec, parts, progress))
            _write_results(finished, results_paths)
            progress.finish(finished.rows[-1])


def _write_results(finished: Finished, paths: Sequence[Path]) -> None:
    for path in paths:
        write_json_atomic(path, {"results": finished.rows})


def _fit_one(
    config: FitConfig, job: Job, codec: ActionCodec, parts: Parts, progress: FitProgress
) -> tuple[dict[str, Any], Curve, Fan | None]:
    """Return row, training curve and, for the first seed, fan of a model."""
    job.folder.mkdir(parents=True)
    curve = Curve(job.label)
    show = partial(progress.update, job.label, job.seed)
    with MetricsLogger(job.folder) as logger:

        def on_evaluation(num_updates: int, metrics: dict[str, float]) -> None:
            logger.log(num_updates, metrics)
            curve.add(num_updates, metrics)
            show(num_updates)

        trained = train_model(job.objective, config.model, codec, parts, job.seed, on_evaluation)
        one_step = judge_one_step(trained.model, parts.test, trained.head)
        generator = torch.Generator().manual_seed(derive_seed(job.seed, "open loop"))
        recorder = None
        if job.seed == config.seed:
            recorder = FanRecorder(parts.windows, liveliest_dims(parts.test))
        many_steps = judge_open_loop(
            trained.model, parts.windows, config.open_loop, generator, recorder, trained.head
        )
        numbers = ("rmse", "nll", "ece", "coverage_90")
        test_metrics = {f"test/{name}": one_step[name] for name in numbers}
        logger.log(trained.num_updates, {**trained.outer_metrics, **test_metrics})
    fan = None if recorder is None else recorder.fan()
    if fan is not None:
        save_fan(fan, job.folder)
    row = {
        "objective": job.label,
        "seed": job.seed,
        **one_step,
        **many_steps,
        "num_updates": trained.num_updates,
        "wall_time_s": trained.wall_time_s,
    }
    return row, curve, fan
