"""Tiny fits, and ways to look at what they leave."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.small import cli

EPISODE_LENGTH = 30
TINY = (
    "model.ensemble_size=2",
    "model.hidden_sizes=[8]",
    "model.batch_size=16",
    "model.num_updates=12",
    "model.eval_every=5",
    "open_loop.ks=[1,5,20]",
    "open_loop.num_windows=8",
    "seeds=2",
)


def write_npz(path: Path, num_episodes: int = 10, length: int = EPISODE_LENGTH) -> Path:
    """Episodes of a noisy, damped point: obs are position and velocity."""
    rng = np.random.default_rng(0)
    count = num_episodes * length
    obs, next_obs = np.zeros((2, count, 2))
    action = rng.uniform(-1, 1, (count, 1))
    for t in range(count):
        obs[t] = rng.normal(size=2) if t % length == 0 else next_obs[t - 1]
        position, velocity = obs[t]
        next_velocity = 0.9 * velocity + 0.3 * action[t, 0] + rng.normal(0, 0.05)
        next_obs[t] = position + 0.1 * velocity, next_velocity
    np.savez(
        path,
        obs=obs,
        action=action,
        reward=np.zeros(count),
        next_obs=next_obs,
        terminated=np.zeros(count, bool),
        truncated=np.arange(count) % length == length - 1,
    )
    return path


def fit(dataset: Path, run: Path, *words: object) -> int:
    """Fit tiny models for a few updates."""
    return cli("fit", *TINY, f"dataset.path={dataset}", *words, "--run-dir", run)


def rows(run: Path) -> list[dict[str, Any]]:
    content = json.loads((run / "results.json").read_text())
    assert content.keys() == {"results"}
    result: list[dict[str, Any]] = content["results"]
    return result


def without_times(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "wall_time_s"} for row in rows(run)]


def stop_at(call: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise just before the n-th model is judged."""
    module = importlib.import_module("mbrl_bilevel.experiments.fit.run")
    judge: Callable[..., Any] = module.judge_one_step
    calls = 0

    def stopping(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return judge(*args, **settings)

    monkeypatch.setattr(module, "judge_one_step", stopping)
