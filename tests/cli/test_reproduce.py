"""`reproduce`: what it leaves behind, and what it refuses."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mbrl_bilevel.config import describe_fields
from mbrl_bilevel.config.reproduce import REPRODUCE_CONFIGS
from tests.cli.small import cli, snapshot

SMALL = (
    "num_outer_steps=2",
    "inner_steps=2",
    "hidden_sizes=[8]",
    "num_inputs=10",
    "num_draws=2",
    "num_held_out=10",
)
OF_FIGURE = {
    "fig1": ("seeds=2", "num_test=20", "temperatures=[0.5,2]"),
    "fig2": ("seeds=2", "num_test=20"),
    "fig3": ("seeds=2", "nystrom.rank=3", "neumann.num_terms=3", "unrolled.num_steps=2"),
}
METHODS = ["mse", "nll", "pg_identity", "pg_trace", "pg_full", "learned"]
SOLVERS = ["functional", "cg", "neumann", "nystrom", "unrolled"]


def reproduce(figure: str, *words: object) -> int:
    """Compute a figure from a few steps on a few data."""
    return cli("reproduce", figure, *SMALL, *OF_FIGURE[figure], *words)


def read_results(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    return content


def without_times(value: Any) -> Any:
    """The same without wall times, at any depth."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not k.startswith("wall_time")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save none: they take most of the time."""
    module = importlib.import_module("mbrl_bilevel.experiments.reproduce.run")
    monkeypatch.setattr(module, "save_figure", lambda *_: None)


@pytest.mark.parametrize("figure", OF_FIGURE)
def test_a_figure_leaves_numbers_a_report_a_picture_and_its_settings(
    figure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy.json"
    assert reproduce(figure, "seed=3", "--run-dir", run, "--json", copy) == 0
    results = read_results(run)
    assert json.loads(copy.read_text()) == results
    assert (run / f"plots/{figure}.png").stat().st_size > 10_000
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config == results["config"]
    assert (config["seed"], config["hidden_sizes"]) == (3, [8])
    report = (run / "report.md").read_text()
    assert "| ---: |" in report
    assert "Seeds 3 to 4" in report
    out = capsys.readouterr().out
    assert report in out
    assert str(run) in out


@pytest.mark.usefixtures("no_pictures")
def test_fig1_has_every_method_at_every_temperature(tmp_path: Path) -> None:
    assert reproduce("fig1", "--run-dir", tmp_path / "run") == 0
    results = read_results(tmp_path / "run")
    assert results["temperatures"] == [0.5, 2.0]
    assert list(results["methods"]) == METHODS
    for method in results["methods"].values():
        for quantity in (method["rmse"], method["nll"]):
            assert [len(values) for values in quantity["seeds"]] == [2, 2]
            assert quantity["mean"][1] == pytest.approx(sum(quantity["seeds"][1]) / 2)
            assert min(quantity["margin"]) > 0
        assert min(method["rmse"]["mean"]) > 1.25
        assert min(method["nll"]["mean"]) > 1.64


@pytest.mark.usefixtures("no_pictures")
def test_fig2_has_the_divergence_of_every_method(tmp_path: Path) -> None:
    assert reproduce("fig2", "--run-dir", tmp_path / "run") == 0
    methods = read_results(tmp_path / "run")["methods"]
    assert list(methods) == METHODS
    for method in methods.values():
        assert len(method["kl"]["seeds"]) == 2
        assert min(method["kl"]["seeds"]) > 0
        assert len(method["shown"]["mean"]) == len(method["shown"]["std"]) == 5


@pytest.mark.usefixtures("no_pictures")
def test_fig3_has_every_solver(tmp_path: Path) -> None:
    assert reproduce("fig3", "--run-dir", tmp_path / "run") == 0
    results = read_results(tmp_path / "run")
    assert list(results["solvers"]) == SOLVERS
    assert [run["seed"] for run in results["runs"]] == [0, 1]
    assert results["runs"][0]["solvers"] == results["solvers"]
    assert results["runs"][1]["solvers"] != results["solvers"]
    for name, result in results["solvers"].items():
        assert result["u_true"] == pytest.approx(0.32)
        assert result["outer_steps"] == len(result["history"]["u"]) == 2
        assert result["wall_time_s"] > 0
        error = result["u_hat"] / result["u_star_residual"] - 1
        assert result["relative_error"] == pytest.approx(error)
        assert result["history"]["u"] == [1.0, 1.0]  # the first step warms up
        assert result["u_hat"] != 1.0
        assert (result["solver_residual"] is None) == (name == "unrolled")


@pytest.mark.usefixtures("no_pictures")
def test_solvers_can_be_chosen(tmp_path: Path) -> None:
    words = ("seeds=1", "solvers=[cg,functional]", "--run-dir", tmp_path / "run")
    assert reproduce("fig3", *words) == 0
    results = read_results(tmp_path / "run")
    assert list(results["solvers"]) == ["cg", "functional"]
    assert results["summary"]["cg"]["u_hat_margin"] is None  # one seed has no interval


@pytest.mark.parametrize("figure", OF_FIGURE)
@pytest.mark.usefixtures("no_pictures")
def test_the_seed_decides_every_number(figure: str, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 7)):
        assert reproduce(figure, f"seed={seed}", "--run-dir", tmp_path / name) == 0
        found.append(without_times(read_results(tmp_path / name)))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.usefixtures("no_pictures")
def test_the_run_folder_is_named_after_figure_and_seed(tmp_path: Path) -> None:
    assert reproduce("fig3", "solvers=[functional]", "seed=4") == 0
    (run,) = (tmp_path / "runs/reproduce_fig3").iterdir()
    assert run.name.endswith("-s4")
    assert (run / "results.json").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["fig4"], ["no figure 'fig4'; allowed: fig1, fig2, fig3"]),
        (["fig3", "solvrs=[cg]"], ["unknown key 'solvrs'", "did you mean 'solvers'?", "cg, "]),
        (["fig3", "solvers=[cg,dense]"], ["'solvers.1': 'dense'", "'functional', 'cg', "]),
        (["fig3", "solvers=[cg,cg]"], ["'solvers': ['cg', 'cg']", "name each solver once"]),
        (["fig3", "cg.ridg=1"], ["unknown key 'cg.ridg'", "did you mean 'cg.ridge'?"]),
        (["fig3", "unrolled.momentum=1"], ["'unrolled.momentum': 1", "less than 1"]),
        (["fig1", "solvers=[cg]"], ["unknown key 'solvers'"]),
        (["fig1", "temperatures=[]"], ["'temperatures': []", "at least 1 item"]),
        (["fig1", "temperatures=[1,-1]"], ["'temperatures.1': -1", "greater than 0"]),
        (["fig2", "temperature=hot"], ["'temperature': 'hot'", "valid number"]),
        (["fig2", "seeds=0"], ["'seeds': 0", "greater than or equal to 1"]),
        (["fig2", "seed"], ["override 'seed' is not of the form key=value"]),
        (["fig2", "--json", "no/such.json"], ["--json no/such.json: its folder does not exist"]),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(
    words: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("reproduce", *words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    for part in parts:
        assert part in err
    assert snapshot(tmp_path) == {}


def test_a_folder_with_a_run_is_not_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("mine")
    assert reproduce("fig3", "--run-dir", run) == 1
    assert f"{run} already holds a run" in capsys.readouterr().err
    assert snapshot(run).keys() == {"config.yaml"}


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("reproduce", "--help") == 0
    out = capsys.readouterr().out
    for name, model in REPRODUCE_CONFIGS.items():
        assert f"\n  {name}: " in out
        for field in describe_fields(model):
            assert field.meaning, field.key
            assert f" {field.key} " in out
            assert field.meaning in out
