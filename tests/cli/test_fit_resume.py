"""`fit --resume`: what is finished stays, the rest is fitted as if nothing had happened."""

import importlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure

from mbrl_bilevel.experiments.fit.plots import Curve
from tests.cli.fits import TINY, fit, rows, stop_at, without_times, write_npz
from tests.cli.small import cli, events, logged, metrics, snapshot, summary

WORDS = ("objective=[mse,bilevel]",)
MODELS = [("mse", 0), ("bilevel", 0), ("mse", 1), ("bilevel", 1)]

KILLED = """
import importlib, os, signal, sys
from mbrl_bilevel.cli import main
run = importlib.import_module("mbrl_bilevel.experiments.fit.run")
judge, calls = run.judge_one_step, []
def judge_or_die(*arguments, **settings):
    calls.append(arguments)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return judge(*arguments, **settings)
run.judge_one_step = judge_or_die
main(sys.argv[1:])
"""
"""The command line in a process that is killed before its second model is judged."""


def resume(run: Path, *words: object) -> int:
    """Go on with a fit."""
    return cli("fit", "--resume", "--run-dir", run, *words)


def content(path: Path) -> Any:
    """What a JSON file holds, but for times."""
    results = json.loads(path.read_text())["results"]
    return [{key: value for key, value in row.items() if key != "wall_time_s"} for row in results]


@pytest.fixture(scope="module")
def whole(points: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit that was not interrupted. Copy it before anything is changed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        module = importlib.import_module("mbrl_bilevel.experiments.fit.outcome")
        patch.setattr(module, "write_pictures", lambda *_: None)
        assert fit(points, run, *WORDS) == 0
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """The same, to do with as one likes."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture
def stopped(run: Path) -> Path:
    """As after a crash in the middle of the third model."""
    keep_rows(run, 2)
    shutil.rmtree(run / "bilevel/s1")
    (run / "report.md").unlink()
    lines = (run / "mse/s1/metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "mse/s1/metrics.jsonl").write_text(lines[0] + '{"step": 5, "ti')
    return run


def keep_rows(run: Path, count: int) -> None:
    """Leave the first rows only, and call the run unfinished."""
    (run / "results.json").write_text(json.dumps({"results": rows(run)[:count]}))
    (run / "summary.json").write_text(json.dumps(summary(run) | {"status": "running"}))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("models", [0, 1, 3])
def test_a_fit_in_two_parts_equals_the_uninterrupted_one(
    models: int, whole: Path, points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        stop_at(models + 1, KeyboardInterrupt(), patch)
        assert fit(points, parts, *WORDS) == 130
    assert summary(parts)["num_results"] == models
    before = rows(parts) if models else []
    assert resume(parts) == 0
    assert without_times(parts) == without_times(whole)
    assert rows(parts)[:models] == before  # times, too: they were not trained again
    assert [(row["objective"], row["seed"]) for row in rows(parts)] == MODELS
    assert summary(parts) == summary(whole)
    assert (parts / "config.yaml").read_text() == (whole / "config.yaml").read_text()
    for label, seed in MODELS:
        folder = f"{label}/s{seed}"
        assert metrics(parts / folder) == metrics(whole / folder)
    for label in ("mse", "bilevel"):
        fans = f"{label}/s0/fans.npz"
        assert (parts / fans).read_bytes() == (whole / fans).read_bytes()
    assert report_without_times(parts) == report_without_times(whole)


def report_without_times(run: Path) -> list[str]:
    lines = (run / "report.md").read_text().splitlines()
    return [line for line in lines if not line.startswith("| training time, s")]


@pytest.mark.usefixtures("no_pictures")
def test_a_killed_fit_goes_on(whole: Path, points: Path, tmp_path: Path) -> None:
    words = ["fit", *TINY, *WORDS, f"dataset.path={points}", "--run-dir", "killed"]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *words], cwd=tmp_path, check=False, timeout=300
    )
    assert process.returncode == -signal.SIGKILL
    killed = tmp_path / "killed"
    assert summary(killed)["status"] == "running"
    assert len(rows(killed)) == 1
    assert (killed / "bilevel/s0").is_dir()
    assert resume(killed) == 0
    assert without_times(killed) == without_times(whole)
    assert summary(killed) == summary(whole)


def test_pictures_are_of_all_models(
    whole: Path, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("mbrl_bilevel.experiments.fit.outcome")
    draw = module.draw_figures
    curves: list[Curve] = []

    def watching(drawn: Any, curves_drawn: list[Curve], fans: Any) -> dict[str, Figure]:
        curves.extend(curves_drawn)
        assert list(fans) == ["mse", "bilevel"]
        figures: dict[str, Figure] = draw(drawn, curves_drawn, fans)
        return figures

    monkeypatch.setattr(module, "draw_figures", watching)
    copy = tmp_path / "copy.json"
    assert resume(stopped, "--json", copy) == 0
    assert [curve.objective for curve in curves] == [label for label, _ in MODELS]
    for curve, (label, seed) in zip(curves, MODELS, strict=True):
        evaluations = logged(whole / label / f"s{seed}")[:-1]
        assert curve.num_updates == [row["step"] for row in evaluations] == [0, 5, 10, 12]
        assert curve.rmse == [row["model/val_rmse"] for row in evaluations]
        assert curve.nll == [row["model/val_nll"] for row in evaluations]
    assert (stopped / "plots/training.png").exists()
    (picture,) = events(stopped).Images("plots/training")
    assert picture.step == 4
    assert content(copy) == without_times(whole)


@pytest.mark.usefixtures("no_pictures")
def test_what_was_not_finite_stays_so(stopped: Path) -> None:
    found = rows(stopped)
    found[0]["open_loop_rmse"]["20"] = None
    (stopped / "results.json").write_text(json.dumps({"results": found}))
    path = stopped / "mse/s0/metrics.jsonl"
    lines = logged(stopped / "mse/s0")
    lines[1]["model/val_nll"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert resume(stopped) == 0
    assert rows(stopped)[:2] == found
    assert "| RMSE, k = 20 | diverged |" in (stopped / "report.md").read_text()


def test_only_the_report_was_missing(
    whole: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_rows(run, 4)
    shutil.rmtree(run / "plots")
    for name in ("report.md", "mse/s0/fans.npz", "bilevel/s0/fans.npz"):
        (run / name).unlink()
    stop_at(1, AssertionError("trained again"), monkeypatch)
    assert resume(run) == 0
    assert rows(run) == rows(whole)
    assert (run / "report.md").read_text() == (whole / "report.md").read_text()
    assert summary(run) == summary(whole)
    assert (run / "plots/open_loop.png").exists()
    assert not (run / "plots/open_loop_fans.png").exists()  # as of a fit before there were any


@pytest.mark.parametrize("config", [(), ("fit_pendulum", *TINY, *WORDS)])
def test_a_completed_fit_says_so_and_does_nothing(
    config: tuple[str, ...],
    run: Path,
    points: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = snapshot(run)
    # The command that it was started with, or that alone.
    words = (*config, f"dataset.path={points}") if config else ()
    assert resume(run, *words, "--json", tmp_path / "copy.json") == 0
    out, err = capsys.readouterr()
    assert out == f"run:        {run}\ncompleted already, all 4 models; nothing to do\n"
    assert err == ""
    assert snapshot(run) == before
    assert (tmp_path / "copy.json").read_text() == (run / "results.json").read_text()


def test_without_a_folder_the_newest_fit_of_the_configuration_goes_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs/fit_pendulum"
    for name in ("20250101-000000-s0", "20250203-000000-s0"):
        shutil.copytree(run, runs / name)
    assert cli("fit", "--resume") == 0
    assert "run:        runs/fit_pendulum/20250203-000000-s0\n" in capsys.readouterr().out
    assert cli("fit", "fit_halfcheetah", "--resume") == 1
    assert "no run of 'fit_halfcheetah' below runs/ to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.num_updates=13"], "where model.num_updates is 12, not 13; leave that out"),
        (["seeds=3"], "where seeds is 2, not 3; leave that out"),
        (["dataset.path=other.npz"], "not 'other.npz'; leave that out"),
        (["fit_pendulum"], "model.hidden_sizes is [8], not [64, 64]; "),
        (["objective=mes"], "did you mean 'mse'?"),
    ],
)
def test_a_fit_does_not_go_on_as_another_one(
    words: list[str], message: str, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(stopped)
    assert resume(stopped, *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert snapshot(stopped) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_episodes": 9}, "its num_episodes is 9, and was 10"),
        ({"length": 31}, "its num_steps is 310, and was 300"),
        ({"name": "moved.npz"}, "its dataset_path is 'moved.npz', and was "),
    ],
)
def test_another_dataset_is_refused(
    settings: dict[str, Any],
    message: str,
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = settings.pop("name", "points.npz")
    other = write_npz(Path(name), **settings)
    config = yaml.safe_load((stopped / "config.yaml").read_text())
    known = summary(stopped) | {"dataset": name}
    if name == "points.npz":
        known["dataset_path"] = name
    (stopped / "summary.json").write_text(json.dumps(known))
    config["dataset"]["path"] = name
    (stopped / "config.yaml").write_text(yaml.safe_dump(config))
    before = snapshot(stopped)
    assert resume(stopped) == 1
    err = capsys.readouterr().err
    assert f"dataset {other} is not the one that {stopped} was started on: {message}" in err
    assert err.count("\n") == 1
    assert snapshot(stopped) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"results.json": "{"}, "results.json is not what a fit writes"),
        ({"results.json": '{"results": 3}'}, "results.json does not hold a list of results"),
        (
            {"results.json": '{"results": [{"objective": "nll", "seed": 0}]}'},
            "result 1 is of nll, seed 0, and config.yaml asks for mse, seed 0",
        ),
        ({"mse/s0/metrics.jsonl": "{\n{\n"}, "metrics.jsonl, line 1: not valid JSON"),
        ({"mse/s0/fans.npz": "?"}, "fans.npz is damaged"),
        ({"summary.json": "{"}, "summary.json is not valid JSON"),
    ],
)
def test_damage_is_named_before_anything_is_changed(
    damage: dict[str, str], message: str, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in damage.items():
        (stopped / name).write_text(text)
    before = snapshot(stopped)
    assert resume(stopped) == 1
    err = capsys.readouterr().err
    assert message in err
    assert str(stopped) in err
    assert err.count("\n") == 1
    assert snapshot(stopped) == before


def test_results_beyond_the_configuration_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("seeds: 2", "seeds: 1"))
    assert resume(run) == 1
    assert "holds 4 results, and config.yaml asks for 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (None, "is not a run folder: it has no config.yaml"),
        ({}, "is not a run folder: it has no config.yaml"),
        (
            {"config.yaml": "agent: {name: pets}", "summary.json": "{}"},
            "is not the folder of a fit: missing key 'dataset'",
        ),
        ({"config.yaml": "fit"}, "is not the folder of a fit: it has no summary.json"),
    ],
)
def test_a_folder_that_is_no_fit_is_named(
    files: dict[str, str] | None, reason: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("folder")
    for name, text in (files or {}).items():
        folder.mkdir(exist_ok=True)
        config = (whole / "config.yaml").read_text()
        (folder / name).write_text(config if text == "fit" else text)
    if files is not None:
        folder.mkdir(exist_ok=True)
    assert resume(folder) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"mbrl-bilevel: error: folder {reason}")
    assert (out, err.count("\n")) == ("", 1)
