"""Fits models by every objective with every seed, and keeps what has been finished."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mbrl_bilevel.config import ObjectiveConfig, to_yaml
from mbrl_bilevel.config.fit import FitConfig
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.data.datasets import EpisodeDataset, load_episodes
from mbrl_bilevel.evaluation import save_figure
from mbrl_bilevel.experiments.fit.judging import judge_one_step, judge_open_loop
from mbrl_bilevel.experiments.fit.parts import Parts, deal_out
from mbrl_bilevel.experiments.fit.plots import Curve, draw_figures
from mbrl_bilevel.experiments.fit.progress import FitProgress, fit_progress
from mbrl_bilevel.experiments.fit.report import make_report
from mbrl_bilevel.experiments.fit.training import train_model
from mbrl_bilevel.runs import (
    MetricsLogger,
    RunDir,
    derive_seed,
    resolve_device,
    versions,
    write_json_atomic,
    write_text_atomic,
)

MEGABYTE = 2**20


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves.

    Attributes:
        status: `"completed"`, or `"interrupted"` by Ctrl-C.
        results: What results.json holds: `{"results": [row, ...]}`, a row for each objective and
            seed that was finished.
        report: Markdown; empty if nothing was finished.
    """

    status: str
    results: dict[str, list[dict[str, Any]]]
    report: str


@dataclass
class _Finished:
    """Results and training curves so far, in the order of fitting."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


def fit(
    config: FitConfig,
    run_path: Path,
    json_path: Path | None = None,
    *,
    show_progress: bool = True,
) -> FitResult:
    """Fit and judge a model for each objective and seed.

    Writes config.yaml, results.json (after each model), report.md, plots/ and summary.json to the
    run's folder, and metrics.jsonl with TensorBoard events to `<objective>/s<seed>/` in it.

    Args:
        config: What to fit, and on what.
        run_path: The folder; must hold no run yet.
        json_path: Gets a copy of results.json, whenever that is written.
        show_progress: On stderr.

    Raises:
        MBRLError: The dataset cannot be used, the folder not be written, or training diverges;
            what was finished before stays.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    device = resolve_device(config.device)
    memory_limit = config.dataset.memory_mb * MEGABYTE
    dataset = load_episodes(
        config.dataset.path, download=config.dataset.download, memory_limit=memory_limit
    )
    codec = ActionCodec(dataset.action_space, device)
    # A dataset that cannot be split leaves no folder behind.
    dataset.split(config.split.fractions, seed=0)
    run = RunDir.create(run_path)
    for unused in (run.checkpoints, run.videos):
        unused.rmdir()
    write_text_atomic(run.config_path, to_yaml(config))

    finished = _Finished()
    status = "failed"
    report = ""
    num_models = len(config.objective) * config.seeds
    try:
        with fit_progress(num_models, config.model.num_updates, enabled=show_progress) as progress:
            _fit_all(config, dataset, codec, run, json_path, finished, progress)
        status = "completed"
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        report = _write_outcome(config, dataset, run, finished, status)
    return FitResult(status, {"results": finished.rows}, report)


def _fit_all(
    config: FitConfig,
    dataset: EpisodeDataset,
    codec: ActionCodec,
    run: RunDir,
    json_path: Path | None,
    finished: _Finished,
    progress: FitProgress,
) -> None:
    # Seed by seed: what an interrupted fit leaves can be compared.
    for seed in range(config.seed, config.seed + config.seeds):
        parts = deal_out(dataset, config, seed)
        for label, objective in zip(config.labels, config.objective, strict=True):
            folder = run.path / label / f"s{seed}"
            show = partial(progress.update, label, seed)
            row, curve = _fit_one(config, objective, label, seed, codec, parts, folder, show)
            finished.rows.append(row)
            finished.curves.append(curve)
            for path in (run.path / "results.json", json_path):
                if path is not None:
                    write_json_atomic(path, {"results": finished.rows})
            progress.finish(row)


def _fit_one(
    config: FitConfig,
    objective: ObjectiveConfig,
    label: str,
    seed: int,
    codec: ActionCodec,
    parts: Parts,
    folder: Path,
    show: Callable[[int], None],
) -> tuple[dict[str, Any], Curve]:
    folder.mkdir(parents=True)
    curve = Curve(label)
    with MetricsLogger(folder) as logger:

        def on_evaluation(num_updates: int, metrics: dict[str, float]) -> None:
            logger.log(num_updates, metrics)
            curve.add(num_updates, metrics)
            show(num_updates)

        trained = train_model(objective, config.model, codec, parts, seed, on_evaluation)
        one_step = judge_one_step(trained.model, parts.test)
        generator = torch.Generator().manual_seed(derive_seed(seed, "open loop"))
        many_steps = judge_open_loop(trained.model, parts.windows, config.open_loop, generator)
        numbers = ("rmse", "nll", "ece", "coverage_90")
        test_metrics = {f"test/{name}": one_step[name] for name in numbers}
        logger.log(trained.num_updates, test_metrics)
    return {
        "objective": label,
        "seed": seed,
        **one_step,
        **many_steps,
        "num_updates": trained.num_updates,
        "wall_time_s": trained.wall_time_s,
    }, curve


def _write_outcome(
    config: FitConfig, dataset: EpisodeDataset, run: RunDir, finished: _Finished, status: str
) -> str:
    """Write summary.json, and of what was finished report and plots; return the report."""
    run.write_summary(
        {
            "status": status,
            "dataset": dataset.name,
            "env_id": dataset.env_id,
            "num_episodes": dataset.num_episodes,
            "num_steps": dataset.num_steps,
            "num_results": len(finished.rows),
            "versions": versions(),
        }
    )
    if not finished.rows:
        return ""
    report = make_report(finished.rows, dataset.name, config)
    write_text_atomic(run.path / "report.md", report)
    for name, figure in draw_figures(finished.rows, finished.curves).items():
        save_figure(figure, run.plots / f"{name}.png")
    return report
