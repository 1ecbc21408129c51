"""What the command line says about itself."""

import re
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import pytest

import mbrl_bilevel
from mbrl_bilevel import build
from mbrl_bilevel.bilevel import SOLVERS
from mbrl_bilevel.config import OBJECTIVE_CONFIGS, describe_fields, list_configs
from tests.cli.small import cli, program


def listed(what: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Names and meanings, as listed."""
    assert cli("list", what) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines()]
    assert all(len(row) == 2 and row[1] for row in rows), out
    return {row[0]: row[1] for row in rows}


def test_agents_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed("agents", capsys).keys() == set(build.agent_names())
    assert "pets" in build.agent_names()


def test_objectives_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(listed("objectives", capsys)) == list(OBJECTIVE_CONFIGS)


def test_solvers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    names = listed("solvers", capsys).keys()
    assert names == set(SOLVERS)
    assert {"dense", "cg", "neumann", "nystrom", "functional", "unrolled", "closed_form"} <= names


def test_configurations_are_listed_with_their_first_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = listed("configs", capsys)
    assert list(rows) == list_configs()
    assert rows["pets_pendulum"] == "PETS swings up Gymnasium's pendulum, within four episodes."


def test_environments_are_listed_under_ids_that_can_be_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = listed("envs", capsys)
    assert "learned" in rows.pop("any other Gymnasium id")
    assert rows.keys() >= {
        "Pendulum-v1",
        "InvertedPendulum-v5",
        "mbrl_envs:CartPoleSwingUp-v0",
        "mbrl_envs:ContinuousCartPole-v0",
        "HalfCheetah-v5",
    }
    with_positions = "with exclude_current_positions_from_observation=False"
    assert rows["HalfCheetah-v5"] == f"exact reward and termination, {with_positions}"
    for env_id, meaning in rows.items():
        assert meaning.startswith("exact ")
        gym.make(env_id).close()


def test_what_cannot_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("list", "planets") == 2
    err = capsys.readouterr().err
    for part in ("'planets'", "agents", "configs", "envs", "objectives", "solvers"):
        assert part in err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["train", "evaluate", "list", "--version"]),
        (["train"], ["CONFIG", "key=value", "--run-dir", "--seed", "--resume", "pets_pendulum"]),
        (["evaluate"], ["RUN_DIR", "--episodes", "--video", "--json"]),
        (["list"], ["agents", "configs", "envs", "objectives", "solvers"]),
    ],
)
def test_every_command_has_help(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(*words, "--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in parts:
        assert part in out


def test_help_of_train_names_every_field_with_type_default_and_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli("train", "--help") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    fields = list(describe_fields(build.config_model({"agent": {"name": "pets"}})))
    keys = {field.key for field in fields}
    assert keys >= {
        "env.id",
        "agent.name",
        "agent.planner.horizon",
        "objective.name",
        "model.lr",
        "total_timesteps",
        "seed",
        "eval.episodes",
        "checkpoint.every",
    }
    for field in fields:
        assert field.meaning, field.key
        only = f" [only for {field.variant}]" if field.variant else ""
        described = [
            following
            for line, following in pairwise(lines)
            if re.fullmatch(rf"{field.key} +{re.escape(f'{field.type} = {field.default}')}", line)
        ]
        assert f"{field.meaning}{only}" in described, field.key


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("--version") == 0
    assert capsys.readouterr().out == f"{mbrl_bilevel.__version__}\n"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    result = program("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"{mbrl_bilevel.__version__}\n")
    result = program("train", "pets_pendulm", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("mbrl-bilevel: error: no configuration 'pets_pendulm'")
    assert result.stderr.count("\n") == 1
