"""`mbrl-bilevel evaluate`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.small import EPISODE_LENGTH, cli, snapshot, summary, train, video_frames


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A completed run, to do with as one likes."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.mark.usefixtures("no_plots")
def test_a_run_is_evaluated_wherever_it_lies_and_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    assert train(Path("original")) == 0
    expected = summary(Path("original"))
    copy = Path(shutil.copytree("original", tmp_path / "elsewhere" / "copy"))
    shutil.rmtree("original")
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    before = snapshot(copy)
    capsys.readouterr()

    assert cli("evaluate", "../elsewhere/copy", "--json", "out.json") == 0
    result = json.loads(Path("out.json").read_text())
    # The same episodes as at the end of training: the same numbers.
    same = ("eval_return_mean", "eval_return_std", "eval_episodes", "eval_length_mean")
    described = ("env_id", "agent", "objective", "seed", "env_steps")
    assert {key: result[key] for key in same + described} == {
        key: expected[key] for key in same + described
    }
    assert result["returns"] == [expected["eval_return_mean"]]
    assert result["lengths"] == [EPISODE_LENGTH]
    assert result.keys() == {*same, *described, "returns", "lengths"}
    out = capsys.readouterr().out
    assert out == f"evaluation: {result['eval_return_mean']:.1f} +- 0.0 over 1 episodes\n"
    assert snapshot(copy) == before
    assert snapshot(tmp_path / "second").keys() == {"out.json"}


def test_the_number_of_episodes_can_be_chosen(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("evaluate", run, "--episodes", 3, "--json", "out.json") == 0
    result = json.loads(Path("out.json").read_text())
    assert len(result["returns"]) == len(set(result["returns"])) == result["eval_episodes"] == 3
    assert result["lengths"] == [EPISODE_LENGTH] * 3
    mean = sum(result["returns"]) / 3
    assert result["eval_return_mean"] == pytest.approx(mean)
    variance = sum((value - mean) ** 2 for value in result["returns"]) / 3
    assert result["eval_return_std"] == pytest.approx(variance**0.5)
    assert "over 3 episodes" in capsys.readouterr().out


def test_the_last_episode_can_be_filmed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(run)
    assert cli("evaluate", run, "--episodes", 2, "--video", "--json", "out.json") == 0
    video = run / "videos" / "evaluation.mp4"
    assert len(video_frames(video)) == EPISODE_LENGTH + 1
    assert json.loads(Path("out.json").read_text())["video"] == str(video)
    assert f"video:      {video}\n" in capsys.readouterr().out
    after = snapshot(run)
    assert after.pop("videos/evaluation.mp4")
    assert after == before


def _not_a_run(run: Path) -> None:
    (run / "config.yaml").unlink()


def _truncate_tensors(run: Path) -> None:
    path = run / "checkpoints" / "step_00000060" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _change_tensors(run: Path) -> None:
    path = run / "checkpoints" / "step_00000060" / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _remove_tensors(run: Path) -> None:
    (run / "checkpoints" / "step_00000060" / "tensors.safetensors").unlink()


def _break_state(run: Path) -> None:
    path = run / "checkpoints" / "step_00000060" / "state.json"
    path.write_text(path.read_text()[:-20])


def _change_state(run: Path) -> None:
    path = run / "checkpoints" / "step_00000060" / "state.json"
    text = path.read_text()
    assert '["num_timesteps",60]' in text
    path.write_text(text.replace('["num_timesteps",60]', '["num_timesteps",61]'))


def _empty_state(run: Path) -> None:
    (run / "checkpoints" / "step_00000060" / "state.json").write_text("")


def _other_settings(run: Path) -> None:
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("ensemble_size: 2", "ensemble_size: 3"))


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (_not_a_run, "run is not a run folder: it has no config.yaml"),
    (_truncate_tensors, "step_00000060/tensors.safetensors is truncated or corrupt"),
    (_change_tensors, "step_00000060/tensors.safetensors is truncated or corrupt"),
    (_remove_tensors, "step_00000060/tensors.safetensors: No such file"),
    (_break_state, "step_00000060/state.json is not valid JSON"),
    (_change_state, "step_00000060/state.json is corrupt"),
    (_empty_state, "step_00000060/state.json is not valid JSON"),
    (_other_settings, "step_00000060: the agent was saved with model="),
]


@pytest.mark.parametrize("command", ["evaluate", "resume"])
@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_one_message_and_nothing_is_touched(
    command: str,
    damage: Callable[[Path], None],
    message: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run)
    before = snapshot(run)
    words = {
        "evaluate": ("evaluate", run, "--json", "out.json"),
        "resume": ("train", "--resume", "--run-dir", run, "total_timesteps=80"),
    }[command]
    assert cli(*words) == 1
    out, err = capsys.readouterr()
    assert err.startswith("mbrl-bilevel: error: ")
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert snapshot(run) == before
    assert not Path("out.json").exists()


def test_without_a_checkpoint_there_is_nothing_to_evaluate(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "checkpoints")
    before = snapshot(run)
    assert cli("evaluate", run) == 1
    err = capsys.readouterr().err
    assert err.endswith("checkpoints holds no checkpoint: nothing to evaluate yet\n")
    assert err.count("\n") == 1
    assert snapshot(run) == before


def test_an_impossible_configuration_in_the_run_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("horizon: 3", "horizon: 0"))
    assert cli("evaluate", run) == 2
    assert "invalid value for 'agent.planner.horizon': 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: RUN_DIR"),
        (["run", "--episodes", "0"], "argument --episodes: 0 is below 1"),
        (["run", "--episodes", "few"], "argument --episodes: 'few' is not a whole number"),
        (["run", "eval.episodes=3"], "unrecognized arguments: eval.episodes=3"),
    ],
)
def test_bad_arguments(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("evaluate", *words) == 2
    assert f"error: {message}\n" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_is_one_message(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("evaluate", run, "--json", "missing/out.json") == 2  # before any episode
    err = capsys.readouterr().err
    assert "mbrl-bilevel: error: --json missing/out.json: its folder does not exist" in err
    assert "Traceback" not in err
