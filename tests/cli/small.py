"""Runs of a second, and ways to look at what they leave."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from mbrl_bilevel.cli import main
from mbrl_bilevel.runs import latest_checkpoint, load_checkpoint
from tests.evaluation.test_video import read_mp4

EPISODE_LENGTH = 25
TINY = (
    f"env.kwargs.max_episode_steps={EPISODE_LENGTH}",
    "agent.learning_starts=20",
    "agent.model_train_freq=20",
    "agent.num_particles=2",
    "agent.planner.horizon=3",
    "agent.planner.population_size=6",
    "agent.planner.num_iterations=2",
    "agent.planner.num_elites=3",
    "model.ensemble_size=2",
    "model.hidden_sizes=[8]",
    "model.num_updates=20",
    "model.eval_every=10",
    "checkpoint.every=20",
    "total_timesteps=60",
    "eval.episodes=1",
)
"""Overrides for 60 steps in episodes of 25: stops at 20, 40, ... are in the middle of one."""

TAGS = {
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "eval/mean_reward",
    "time/fps",
    "model/val_nll",
    "model/val_rmse",
    "bilevel/outer_loss",
    "bilevel/hypergradient_norm",
    "bilevel/stationarity",
    "bilevel/solver_residual",
}
"""What every bilevel run logs, under the names that others rely on."""

TIMES = {"time_s", "time/fps"}
"""What differs between two runs that are equal."""


def cli(*words: object) -> int:
    """Run a command in this process; its exit status, argparse's included."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)


def train(run: Path, *overrides: object, config: str = "pets_pendulum") -> int:
    """Train a tiny agent, without video unless an override asks for one."""
    return cli("train", config, *TINY, "eval.video=false", *overrides, "--run-dir", run)


def resume(run: Path, *overrides: object) -> int:
    """Go on with a run."""
    return cli("train", "--resume", "--run-dir", run, *overrides)


def program(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    # -P: the current folder is not importable by itself, as it is not for the installed program.
    return subprocess.run(
        [sys.executable, "-P", "-m", "mbrl_bilevel", *map(str, words)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder with a checksum of its content, and every folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def logged(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the times."""
    return [{tag: row[tag] for tag in row if tag not in TIMES} for row in logged(run)]


def events(run: Path) -> EventAccumulator:
    """What TensorBoard reads."""
    accumulator = EventAccumulator(str(run))
    accumulator.Reload()
    return accumulator


def summary(run: Path) -> dict[str, Any]:
    """What summary.json holds."""
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


def final_state(run: Path) -> dict[Any, Any]:
    """Everything in the newest checkpoint."""
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_checkpoint(checkpoint)


def video_frames(path: Path, height: int = 500, width: int = 500) -> NDArray[np.uint8]:
    """Decode an mp4 of that size: `[T, height, width, 3]`."""
    frames, _ = read_mp4(path, height, width)
    return frames
