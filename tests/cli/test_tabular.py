"""Runs of tabular agents."""

from pathlib import Path

import pytest

from tests.agents.small import assert_identical
from tests.cli.small import cli, events, final_state, logged, metrics, resume, summary

SMALL = (
    "total_timesteps=120",
    "eval.episodes=2",
    "eval.every=40",
    "eval.every_episodes=1",
    "eval.video=false",
    "checkpoint.every=50",
)
CONFIGS = {
    "dyna_frozenlake": "bilevel",
    "vi_frozenlake": "bilevel",
    "psrl_frozenlake": "dirichlet",
    "q_learning_frozenlake": "none",
    "rmax_chain": "nll",
}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_run_leaves_what_every_run_leaves(config: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = ["agent.model_train_freq=20"] if config.startswith(("dyna", "vi")) else []
    assert cli("train", config, *SMALL, *overrides, "--run-dir", run) == 0
    result = summary(run)
    assert result["status"] == "completed"
    assert result["objective"] == CONFIGS[config]
    assert result["eval_exact_return"] <= result["eval_optimal_return"]
    evaluations = [row for row in logged(run) if "eval/mean_reward" in row]
    assert [row["step"] for row in evaluations] == [40, 80, 120]
    assert all("eval/exact_return" in row for row in evaluations)
    assert {path.name for path in (run / "plots").iterdir()} == {
        "learning_curve.png",
        "values.png",
    }
    assert "eval/exact_value" in events(run).Tags()["scalars"]
    if config.startswith("dyna"):
        assert "bilevel/outer_loss" in events(run).Tags()["scalars"]

    assert cli("evaluate", run, "--episodes", 3) == 0
    parts = tmp_path / "parts"
    first = [*SMALL, *overrides, "total_timesteps=70"]
    assert cli("train", config, *first, "--run-dir", parts) == 0
    assert resume(parts, "total_timesteps=120") == 0
    assert_identical(final_state(parts), final_state(run))
    assert metrics(parts)[-1] == metrics(run)[-1]


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (["objective=mse"], ["'objective.name': 'mse'; allowed: nll, dirichlet, pg, bilevel"]),
        (["objective=bilevl"], ["did you mean 'bilevel'?"]),
        (["model.ensemble_size=3"], ["unknown key 'model.ensemble_size'", "held_out_fraction"]),
        (["agent.planning_update=3"], ["did you mean 'agent.planning_updates'?"]),
    ],
)
def test_bad_settings_leave_nothing(
    overrides: list[str],
    messages: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    assert cli("train", "dyna_frozenlake", *overrides, "--run-dir", run) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages), error
    assert not run.exists()


def test_an_environment_of_real_numbers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert cli("train", "dyna_frozenlake", "env.id=CartPole-v1", "--run-dir", run) == 1
    assert "observation space Box" in capsys.readouterr().err
    assert not run.exists()
