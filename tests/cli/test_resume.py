"""`mbrl-bilevel train --resume`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.agents.small import assert_identical
from tests.cli.small import (
    cli,
    events,
    final_state,
    logged,
    metrics,
    resume,
    snapshot,
    summary,
    train,
)

pytestmark = pytest.mark.usefixtures("no_plots")


def without_evaluations(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every run that comes to its end logs an evaluation there: a run stopped early one more."""
    return [row for row in rows if "eval/mean_reward" not in row]


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A completed run of 60 steps, with checkpoints of 40 and 60, to do with as one likes."""
    return Path(shutil.copytree(finished_run, tmp_path / "copy"))


@pytest.mark.parametrize("stop", [10, 20, 25, 40, 47])
def test_a_run_in_two_parts_equals_the_uninterrupted_one(
    finished_run: Path, tmp_path: Path, stop: int
) -> None:
    # 10: all actions random; 20: just after the first fit; 25: between two episodes;
    # 40: a fit and in the middle of an episode; 47: between two fits, off the checkpoints' grid.
    parts = tmp_path / "parts"
    assert train(parts, f"total_timesteps={stop}") == 0
    assert summary(parts)["env_steps"] == stop
    assert resume(parts, "total_timesteps=60") == 0
    assert_identical(final_state(parts), final_state(finished_run))
    assert without_evaluations(metrics(parts)) == without_evaluations(metrics(finished_run))
    assert metrics(parts)[-1] == metrics(finished_run)[-1]
    result = summary(parts)
    assert result["status"] == "completed"
    assert result["eval_return_mean"] == summary(finished_run)["eval_return_mean"]
    config = (parts / "config.yaml").read_text().replace("video: false", "video: true")
    assert config == (finished_run / "config.yaml").read_text()


def test_what_was_logged_after_the_last_checkpoint_is_logged_anew(
    finished_run: Path, run: Path
) -> None:
    """As after a crash between two checkpoints."""
    shutil.rmtree(run / "checkpoints" / "step_00000060")
    (run / "summary.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "ti')  # cut short
    assert resume(run) == 0
    assert metrics(run) == metrics(finished_run)
    assert_identical(final_state(run), final_state(finished_run))
    fits = events(run).Scalars("model/val_nll")
    assert [event.step for event in fits] == [20, 40, 60]


def test_a_run_without_a_checkpoint_starts_again(finished_run: Path, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    assert resume(run) == 0
    assert metrics(run) == metrics(finished_run)
    assert_identical(final_state(run), final_state(finished_run))


def test_a_finished_run_is_only_evaluated_again(
    finished_run: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(run, "eval.episodes=2") == 0
    assert_identical(final_state(run), final_state(finished_run))
    assert without_evaluations(metrics(run)) == without_evaluations(metrics(finished_run))
    result = summary(run)
    assert (result["status"], result["env_steps"], result["eval_episodes"]) == ("completed", 60, 2)
    assert "over 2 episodes" in capsys.readouterr().out


def test_time_goes_on_where_it_stopped(run: Path) -> None:
    rows = logged(run)
    rows[2]["time_s"] = 1000.0  # at step 40
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(run / "checkpoints" / "step_00000060")
    assert resume(run) == 0
    assert logged(run)[-1]["time_s"] >= 1000
    assert summary(run)["wall_time_s"] >= 1000


def test_without_a_folder_the_newest_run_of_the_configuration_goes_on(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs" / "pets_pendulum"
    for name in ("20250101-000000-s0", "20250203-000000-s0", "20250202-000000-s9"):
        shutil.copytree(finished_run, runs / name)
    shutil.copytree(finished_run, tmp_path / "runs" / "pets_other" / "20260101-000000-s0")
    before = snapshot(tmp_path)
    assert cli("train", "--resume", "eval.video=false") == 0
    assert "run:        runs/pets_pendulum/20250203-000000-s0\n" in capsys.readouterr().out
    after = snapshot(tmp_path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed
    assert all(name.startswith("runs/pets_pendulum/20250203-000000-s0/") for name in changed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run-dir", "nowhere"], "nowhere is not a run folder: it has no config.yaml"),
        (["--run-dir", "empty"], "empty is not a run folder: it has no config.yaml"),
        ([], "no run of 'pets_pendulum' below runs/ to resume; name one with --run-dir"),
        (["pets_cartpole_swingup"], "no run of 'pets_cartpole_swingup' below runs/ to resume"),
    ],
)
def test_where_there_is_no_run_nothing_is_resumed(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert cli("train", "--resume", *words) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"mbrl-bilevel: error: {message}")
    assert (out, err.count("\n")) == ("", 1)
    assert snapshot(tmp_path) == {"empty": "folder"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agent.planner.horizon=4"], "saved with agent="),
        (["model.hidden_sizes=[16]"], "saved with model="),
        (["objective=nll"], "saved with objective="),
        (["seed=1"], "saved with seed=0, but this one has seed=1"),
        (["env.id=MountainCarContinuous-v0"], "saved with an exact reward"),
    ],
)
def test_a_run_does_not_go_on_as_another_one(
    overrides: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run)
    assert resume(run, "eval.video=false", "total_timesteps=80", *overrides) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert "step_00000060" in err
    assert snapshot(run) == before


def test_damaged_metrics_stop_a_run_before_anything_is_changed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([rows[0], "{broken", *rows[2:], ""]))
    before = snapshot(run)
    assert resume(run, "total_timesteps=80") == 1
    err = capsys.readouterr().err
    assert "metrics.jsonl, line 2: not valid JSON" in err
    assert err.count("\n") == 1
    assert snapshot(run) == before


def test_a_configuration_beside_the_runs_own_is_refused(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("train", "pets_pendulum", "--resume", "--run-dir", finished_run) == 2
    assert "leave CONFIG out" in capsys.readouterr().err
