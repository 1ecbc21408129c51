"""`mbrl-bilevel train`: what a run leaves, and that it can be repeated."""

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import yaml

import mbrl_bilevel
from mbrl_bilevel.config import list_configs
from tests.agents.small import assert_identical, differ
from tests.cli.small import (
    EPISODE_LENGTH,
    TAGS,
    TINY,
    cli,
    events,
    final_state,
    logged,
    metrics,
    snapshot,
    summary,
    train,
    video_frames,
)

PLOTS = ("calibration", "learning_curve", "trajectory", "what_matters")


def test_a_run_leaves_what_was_agreed_and_nothing_else(finished_run: Path) -> None:
    names = {name for name, kind in snapshot(finished_run).items() if kind != "folder"}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "checkpoints/step_00000040/state.json",
        "checkpoints/step_00000040/tensors.safetensors",
        "checkpoints/step_00000060/state.json",
        "checkpoints/step_00000060/tensors.safetensors",
        "plots/calibration.png",
        "plots/learning_curve.png",
        "plots/trajectory.png",
        "plots/what_matters.png",
        "videos/final.mp4",
    }


def test_metrics_have_the_agreed_tags(finished_run: Path) -> None:
    rows = logged(finished_run)
    assert {tag for row in rows for tag in row} >= TAGS
    assert [row["step"] for row in rows] == [20, 25, 40, 50, 60, 60]  # fits, episodes, evaluation
    times = [row["time_s"] for row in rows]
    assert times == sorted(times)
    assert all(isinstance(value, int | float) for row in rows for value in row.values())


def test_rollout_metrics_are_means_over_the_episodes_so_far(finished_run: Path) -> None:
    first, second = (row for row in metrics(finished_run) if "rollout/ep_rew" in row)
    assert first["rollout/ep_rew_mean"] == first["rollout/ep_rew"]
    mean = (first["rollout/ep_rew"] + second["rollout/ep_rew"]) / 2
    assert second["rollout/ep_rew_mean"] == pytest.approx(mean)
    assert second["rollout/ep_len_mean"] == EPISODE_LENGTH


def test_tensorboard_gets_the_same_numbers(finished_run: Path) -> None:
    recorded = events(finished_run)
    rows = logged(finished_run)
    expected: dict[str, list[Any]] = {}
    for row in rows:
        for tag in row.keys() - {"step", "time_s"}:
            expected.setdefault(tag, []).append((row["step"], pytest.approx(row[tag], rel=1e-6)))
    found = {
        tag: [(event.step, event.value) for event in recorded.Scalars(tag)]
        for tag in recorded.Tags()["scalars"]
    }
    assert found == expected
    images = {f"plots/{name}" for name in PLOTS}
    assert set(recorded.Tags()["images"]) == images


def test_summary_says_what_was_run_and_what_came_out(finished_run: Path) -> None:
    content = summary(finished_run)
    expected = {
        "status": "completed",
        "env_id": "Pendulum-v1",
        "agent": "pets",
        "objective": "bilevel",
        "seed": 0,
        "env_steps": 60,
        "total_timesteps": 60,
        "eval_episodes": 1,
        "eval_return_std": 0.0,
        "eval_length_mean": EPISODE_LENGTH,
    }
    assert {key: content[key] for key in expected} == expected
    assert content["eval_return_mean"] == metrics(finished_run)[-1]["eval/mean_reward"]
    assert content["eval_return_mean"] < 0
    assert content["wall_time_s"] > 0
    assert content["versions"]["mbrl-bilevel"] == mbrl_bilevel.__version__
    assert {"python", "torch", "numpy", "gymnasium", "mujoco"} <= content["versions"].keys()


@pytest.mark.parametrize("name", PLOTS)
def test_plots_show_something(finished_run: Path, name: str) -> None:
    pixels = matplotlib.image.imread(finished_run / "plots" / f"{name}.png")
    assert min(pixels.shape[:2]) > 100
    assert pixels.std() > 0.02


def test_video_has_a_frame_of_the_reset_and_of_every_step(finished_run: Path) -> None:
    frames = video_frames(finished_run / "videos" / "final.mp4")
    assert len(frames) == EPISODE_LENGTH + 1
    assert abs(frames[0].astype(int) - frames[-1]).mean() > 0.1  # it moves


def test_training_on_a_run_s_own_configuration_repeats_it(
    finished_run: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    assert cli("train", finished_run / "config.yaml", "--run-dir", again) == 0
    assert (again / "config.yaml").read_bytes() == (finished_run / "config.yaml").read_bytes()
    assert metrics(again) == metrics(finished_run)
    assert_identical(final_state(again), final_state(finished_run))
    assert summary(again) | {"wall_time_s": 0} == summary(finished_run) | {"wall_time_s": 0}


@pytest.mark.usefixtures("no_plots")
def test_another_seed_gives_another_run(finished_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert train(other, "--seed", 1) == 0
    assert summary(other)["seed"] == 1
    for mine, theirs in zip(metrics(other), metrics(finished_run), strict=True):
        assert mine.keys() == theirs.keys()
        assert any(mine[tag] != theirs[tag] for tag in mine.keys() - {"step"})
    states = final_state(other)["state"], final_state(finished_run)["state"]
    for part in ("model", "buffer", "interaction", "generator"):
        assert differ(states[0][part], states[1][part]), part


@pytest.mark.usefixtures("no_plots")
def test_results_go_to_stdout_and_progress_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(
        rf"run:        {re.escape(str(tmp_path))}/run\n"
        r"evaluation: -\d+\.\d \+- 0\.0 over 1 episodes\n"
        r"took:       \d+ s for 60 steps\n"
        rf"watch:      .*tensorboard --logdir {re.escape(str(tmp_path))}/run\n",
        out,
    )
    assert "step 60/60 (100%)" in err
    assert "steps/s" in err
    assert "evaluating over 1 episodes" in err


@pytest.mark.usefixtures("no_plots")
def test_tensorboard_is_named_by_its_path_where_it_would_not_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = Path(sys.executable).parent
    named = []
    for path in (programs, tmp_path):
        monkeypatch.setenv("PATH", str(path))
        assert train(tmp_path / f"from {path.name}", "total_timesteps=20") == 0
        last_line = capsys.readouterr().out.splitlines()[-1]
        named.append(last_line.removeprefix("watch:").partition(" --logdir")[0].strip())
    assert named == ["tensorboard", str(programs / "tensorboard")]


@pytest.mark.usefixtures("no_plots")
def test_without_a_folder_the_run_lies_below_runs(tmp_path: Path) -> None:
    words = ("pets_pendulum", *TINY, "eval.video=false", "agent.planner=random_shooting")
    short = ("agent.planner.horizon=3", "agent.planner.population_size=6")
    assert cli("train", *words, *short, "--seed", 7) == 0
    assert cli("train", *words, *short, "seed=7") == 0
    first, second = sorted((tmp_path / "runs" / "pets_pendulum").iterdir())
    assert re.fullmatch(r"\d{8}-\d{6}-s7", first.name)
    assert re.fullmatch(r"\d{8}-\d{6}-s7(-2)?", second.name)
    assert_identical(final_state(first), final_state(second))


@pytest.mark.usefixtures("no_plots")
def test_options_and_overrides_may_be_mixed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("train", "--run-dir", run, *TINY[:8], "--seed", 3, *TINY[8:], "eval.video=no") == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["name"], config["seed"]) == ("pets_pendulum", 3)
    assert config["model"]["hidden_sizes"] == [8]


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("objective", ["mse", "nll", "beta_nll"])
def test_other_objectives_log_nothing_bilevel(objective: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, f"objective={objective}") == 0
    assert summary(run)["objective"] == objective
    tags = {tag for row in metrics(run) for tag in row}
    assert {"model/val_nll", "model/val_rmse", "rollout/ep_rew_mean", "eval/mean_reward"} <= tags
    assert not [tag for tag in tags if tag.startswith("bilevel/")]


@pytest.mark.usefixtures("no_plots")
def test_evaluations_on_the_way_are_logged_and_change_nothing(
    finished_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train(run, "eval.every=20", "eval.every_episodes=2") == 0
    steps = [row["step"] for row in metrics(run) if "eval/mean_reward" in row]
    assert steps == [20, 40, 60]
    others = [row for row in metrics(run) if "eval/mean_reward" not in row]
    assert others == [row for row in metrics(finished_run) if "eval/mean_reward" not in row]
    assert_identical(final_state(run), final_state(finished_run))


@pytest.mark.parametrize("config", [name for name in list_configs() if name.startswith("pets_")])
def test_every_shipped_configuration_trains(config: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, config=config) == 0
    assert summary(run)["status"] == "completed"
    assert {path.stem for path in (run / "plots").iterdir()} == set(PLOTS)
