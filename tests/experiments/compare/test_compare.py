"""Comparisons from beginning to end: both engines, killed workers, Ctrl-C, and what is left."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mbrl_bilevel.config.compare import CompareConfig
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.experiments.compare import CompareResult, compare
from mbrl_bilevel.experiments.compare.progress import CompareProgress
from tests.experiments.compare.cases import TINY, compare_config


def run(config: CompareConfig, folder: Path, *, resume: bool = False) -> CompareResult:
    command = "mbrl-bilevel compare --resume" if resume else "mbrl-bilevel compare"
    return compare(config, folder, command, resume=resume, show_progress=False)


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    for row in found:
        row.pop("wall_time_s", None)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare") / "run"
    result = run(compare_config(), folder)
    assert (result.status, result.num_failed) == ("completed", 0)
    return folder


@pytest.fixture
def at_refresh(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has something done while cells run."""

    def install(action: Callable[[], None]) -> None:
        monkeypatch.setattr(CompareProgress, "refresh", lambda _: action())

    return install


def kill_first(folder: Path, pattern: str) -> Iterator[None]:
    """Kill the first process of that command once its cell has a checkpoint."""
    while not list(folder.glob("cells/*/*/s0/checkpoints/step_*")):
        yield
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in found.stdout.split()]
    assert pids, "nothing to kill"
    os.kill(pids[0], signal.SIGKILL)
    while True:
        yield


def test_everything_is_left_in_the_folder(undisturbed: Path) -> None:
    found = rows(undisturbed)
    assert [(row["objective"], row["seed"]) for row in found] == [("nll", 0), ("bilevel", 0)]
    for row in found:
        assert row["status"] == "completed"
        assert row["env_steps"] == 60
        assert row["evaluations"] == [[60, row["eval_return_mean"]]]
    report = (undisturbed / "report.md").read_text(encoding="utf-8")
    for text in ("| nll |", "optimality gap", "probability of improvement", "fewer than five"):
        assert text in report
    names = {path.name for path in (undisturbed / "plots").iterdir()}
    assert names == {"curves_pets_pendulum.png", "aggregates.png"}
    assert {path.parent.name for path in undisturbed.glob("hparams/*/events*")} == {"0000", "0001"}
    assert json.loads((undisturbed / "summary.json").read_text())["status"] == "completed"


def test_a_killed_worker_s_cell_goes_on(
    undisturbed: Path, tmp_path: Path, at_refresh: Callable[[Callable[[], None]], None]
) -> None:
    folder = tmp_path / "killed"
    killer = kill_first(folder, f"compare.worker {folder}/cells")
    at_refresh(lambda: next(killer))
    result = run(compare_config(), folder)
    assert result.num_failed == 0
    assert rows(folder) == rows(undisturbed)


def test_what_is_killed_too_often_fails_and_the_others_go_on(
    tmp_path: Path, at_refresh: Callable[[Callable[[], None]], None]
) -> None:
    folder = tmp_path / "killed"
    killer = kill_first(folder, f"compare.worker {folder}/cells")
    at_refresh(lambda: next(killer))
    result = run(compare_config(retries=0), folder)
    assert result.num_failed == 1
    assert sorted(row["status"] for row in rows(folder)) == ["completed", "failed"]
    (failed,) = [row for row in rows(folder) if row["status"] == "failed"]
    assert failed["error"] == "killed by signal 9"
    assert "killed by signal 9" in result.report
    again = run(compare_config(retries=0), folder, resume=True)
    assert again.num_failed == 0


def test_interrupted_it_goes_on_without_repeating_what_is_finished(
    undisturbed: Path, tmp_path: Path, at_refresh: Callable[[Callable[[], None]], None]
) -> None:
    folder = tmp_path / "interrupted"
    config = compare_config(num_workers=1)

    def interrupt() -> None:
        if list(folder.glob("cells/*/bilevel/s0/checkpoints/step_*")):
            raise KeyboardInterrupt

    at_refresh(interrupt)
    assert run(config, folder).status == "interrupted"
    assert [row["objective"] for row in rows(folder)] == ["nll"]
    before = (folder / "cells/pets_pendulum/nll/s0/summary.json").stat().st_mtime_ns
    at_refresh(lambda: None)
    # How cells are run may change.
    resumed = run(compare_config(), folder, resume=True)
    assert resumed.status == "completed"
    assert "```\nmbrl-bilevel compare\n```" in resumed.report
    assert rows(folder) == rows(undisturbed)
    assert (folder / "cells/pets_pendulum/nll/s0/summary.json").stat().st_mtime_ns == before
    for overrides, message in (
        (TINY | {"total_timesteps": 80}, "overrides.total_timesteps is 60, not 80"),
        (TINY | {"eval.every": 20}, "overrides.eval.every is not there"),
        (dict(list(TINY.items())[1:]), "overrides.total_timesteps is 60, not left out"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(compare_config(overrides=overrides), folder, resume=True)


def test_more_of_it_can_be_asked_for_and_none_of_it_lost(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(undisturbed, folder)
    finished = folder / "cells/pets_pendulum/nll/s0/summary.json"
    before = finished.stat().st_mtime_ns
    mse = compare_config(objectives=["mse", "nll", "bilevel"])
    result = run(mse, folder, resume=True)
    assert (result.status, result.num_failed) == ("completed", 0)
    assert "```\nmbrl-bilevel compare\nmbrl-bilevel compare --resume\n```" in result.report
    assert [row["objective"] for row in rows(folder)] == ["mse", "nll", "bilevel"]
    assert rows(folder)[1:] == rows(undisturbed)
    assert finished.stat().st_mtime_ns == before
    kept = (folder / "results.jsonl").read_bytes()
    for fewer, message in (
        ({"objectives": ["nll", "bilevel"]}, "objectives is"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"tasks": ["pets_reacher"]}, "tasks is"),
        ({"grid": {"model.lr": [0.01]}}, "grid.model.lr is not there"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(
                compare_config(**{"objectives": ["mse", "nll", "bilevel"], **fewer}),
                folder,
                resume=True,
            )
        assert (folder / "results.jsonl").read_bytes() == kept


def test_a_cell_that_fails_says_why(tmp_path: Path) -> None:
    config = compare_config(
        tasks=[{"config": "pets_pendulum", "overrides": {"env.kwargs": {"gravity": 1}}}],
        objectives=["nll"],
    )
    result = run(config, tmp_path / "run")
    assert result.num_failed == 1
    assert "gravity" in rows(tmp_path / "run")[0]["error"]


def test_ray_gives_the_same_results_even_if_a_worker_is_killed(
    undisturbed: Path, tmp_path: Path, at_refresh: Callable[[Callable[[], None]], None]
) -> None:
    pytest.importorskip("ray")
    folder = tmp_path / "ray"
    killer = kill_first(folder, "ray::_remote_cell")
    at_refresh(lambda: next(killer))
    started = time.time()
    result = run(compare_config(engine="ray"), folder)
    assert result.num_failed == 0, result.report
    assert rows(folder) == rows(undisturbed)
    assert list(folder.glob("cells/*/*/s0/summary.json")), started


def test_changed_settings_of_a_task_are_noticed(undisturbed: Path, tmp_path: Path) -> None:
    """A finished cell is kept for the very configuration that it was run with only."""
    source = tmp_path / "mine.yaml"
    shipped = Path(__file__).parents[3] / "configs" / "pets_pendulum.yaml"
    source.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    task = {"config": str(source), "label": "pets_pendulum"}
    folder = tmp_path / "run"
    config = compare_config(tasks=[task], objectives=["nll"])
    run(config, folder)
    first = rows(folder)[0]
    text = source.read_text(encoding="utf-8").replace("propagation: ts1", "propagation: mean")
    source.write_text(text, encoding="utf-8")
    run(config, folder, resume=True)
    second = rows(folder)[0]
    assert first["config"] != second["config"]
    assert first["eval_return_mean"] == rows(undisturbed)[0]["eval_return_mean"]
    assert TINY["total_timesteps"] == second["env_steps"]
