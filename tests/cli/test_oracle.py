"""Runs of agents that fit no model, or none yet."""

import json
from pathlib import Path
from typing import Any

import pytest

from mbrl_bilevel.data.datasets import load_episodes
from tests.agents.small import assert_identical
from tests.cli.small import cli, final_state, logged, resume, snapshot, summary, train

TINY = (
    "env.kwargs.max_episode_steps=10",
    "agent.planner.horizon=3",
    "agent.planner.population_size=6",
    "agent.planner.num_iterations=2",
    "agent.planner.num_elites=3",
    "eval.video=false",
    "eval.episodes=2",
    "checkpoint.every=5",
)


def train_oracle(run: Path, *overrides: object) -> int:
    return cli("train", "oracle_pendulum", *TINY, *overrides, "--run-dir", run)


@pytest.fixture(scope="module")
def oracle_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("oracle") / "run"
    assert train_oracle(run, "total_timesteps=15") == 0
    return run


def test_a_run_leaves_curves_but_no_pictures_of_a_model(oracle_run: Path) -> None:
    plots = {name for name in snapshot(oracle_run) if name.startswith("plots/")}
    assert plots == {"plots/learning_curve.png"}
    assert summary(oracle_run)["status"] == "completed"
    assert [row["step"] for row in logged(oracle_run)] == [10, 15]  # an episode, the evaluation


def test_a_resumed_run_equals_the_uninterrupted_one(oracle_run: Path, tmp_path: Path) -> None:
    assert train_oracle(tmp_path / "run", "total_timesteps=5") == 0
    assert resume(tmp_path / "run", "total_timesteps=15") == 0
    assert_identical(final_state(tmp_path / "run"), final_state(oracle_run))
    whole, parts = summary(oracle_run), summary(tmp_path / "run")
    assert parts["eval_return_mean"] == whole["eval_return_mean"]


def test_a_run_is_evaluated_again(oracle_run: Path, tmp_path: Path) -> None:
    assert cli("evaluate", oracle_run, "--json", tmp_path / "result.json") == 0
    result: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    assert result["eval_return_mean"] == summary(oracle_run)["eval_return_mean"]


def test_its_episodes_are_collected(oracle_run: Path, tmp_path: Path) -> None:
    """In an environment of the collection's own, which the agent has to be told of."""
    words = [
        "env.id=Pendulum-v1", "env.kwargs.max_episode_steps=10", "policy=agent",
        f"policy.run={oracle_run}", f"dataset.root={tmp_path}", "dataset.id=pendulum/oracle-v0",
        "episodes=2",
    ]  # fmt: skip
    assert cli("collect", "collect_pendulum", *words) == 0
    dataset = load_episodes(tmp_path / "pendulum" / "oracle-v0")
    assert dataset.num_episodes == 2


def test_gradients_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_oracle(tmp_path / "run", "agent.planner.refinement.lr=0.1") == 2
    message = "planner.refinement has to be null: a simulator has no gradients"
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_not_fitted_yet_is_not_drawn(tmp_path: Path) -> None:
    assert train(tmp_path / "run", "total_timesteps=19") == 0
    plots = {name for name in snapshot(tmp_path / "run") if name.startswith("plots/")}
    assert plots == {"plots/learning_curve.png"}
