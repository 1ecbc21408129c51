"""One cell: trained, gone on with, or found finished."""

import shutil
from pathlib import Path
from typing import Any

from mbrl_bilevel.config import TrainConfig, to_yaml
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.experiments.train import train
from mbrl_bilevel.runs import RunDir, latest_checkpoint, read_metrics

SUMMARY_KEYS = (
    "eval_return_mean",
    "eval_return_std",
    "eval_episodes",
    "env_steps",
    "wall_time_s",
)
PATIENCE_S = 120.0
"""What stopping cells may take to write their checkpoints."""
Outcome = dict[str, Any]
"""What results.jsonl holds of a cell, beside its key."""


def run_cell(config: TrainConfig[Any], folder: Path) -> Outcome:
    """Train a cell, and return what came out of it.

    A finished run of the same configuration is kept, an interrupted one is gone on with from its
    newest checkpoint; anything else in the folder goes.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM stopped it; a checkpoint was written.
        MBRLError: Training fails.
    """
    if is_finished(config, folder):
        return read_outcome(folder)
    resume = _is_same(config, folder) and latest_checkpoint(RunDir(folder).checkpoints) is not None
    if not resume and folder.exists():
        shutil.rmtree(folder)
    summary = train(config, folder, resume=resume, show_progress=False)
    if summary["status"] != "completed":
        raise KeyboardInterrupt
    return read_outcome(folder)


def is_finished(config: TrainConfig[Any], folder: Path) -> bool:
    """Whether the folder holds a finished run of this very configuration."""
    run = RunDir(folder)
    if not (_is_same(config, folder) and run.summary_path.is_file()):
        return False
    try:
        return run.read_summary().get("status") == "completed"
    except MBRLError:  # damaged: trained anew
        return False


def read_outcome(folder: Path) -> Outcome:
    """Return what a finished run left.

    Raises:
        MBRLError: A file of it is missing or damaged.
    """
    run = RunDir(folder)
    summary = run.read_summary()
    rows = read_metrics(run.metrics_path)
    return {
        "status": summary["status"],
        **{key: summary.get(key) for key in SUMMARY_KEYS},
        "episodes": _curve(rows, "rollout/ep_rew"),
        "evaluations": _curve(rows, "eval/mean_reward"),
    }


def _curve(rows: list[dict[str, Any]], tag: str) -> list[list[float]]:
    """Points `[step, value]` of a metric, in the order of logging."""
    return [[row["step"], row[tag]] for row in rows if row.get(tag) is not None]


def _is_same(config: TrainConfig[Any], folder: Path) -> bool:
    path = RunDir(folder).config_path
    return path.is_file() and path.read_text(encoding="utf-8") == to_yaml(config)
