"""`fit`: what it leaves behind, what it keeps when stopped, and what it refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from mbrl_bilevel.config import (
    OBJECTIVE_CONFIGS,
    StrictConfig,
    describe_fields,
    find_config,
    load_data,
)
from mbrl_bilevel.config.fit import FitConfig, fit_config
from mbrl_bilevel.data.datasets import load_episodes
from mbrl_bilevel.experiments.fit.parts import deal_out
from mbrl_bilevel.experiments.fit.report import make_report, over_seeds
from tests.cli.fits import TINY, fit, rows, stop_at, without_times, write_npz
from tests.cli.small import cli, events, logged, snapshot

ROW = {
    "objective",
    "seed",
    "rmse",
    "nll",
    "ece",
    "coverage_90",
    "open_loop_rmse",
    "num_updates",
    "wall_time_s",
}
"""What others rely on in every row of the results."""


def test_it_leaves_results_a_report_pictures_and_logs(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy.json"
    words = ("objective=[mse,nll,beta_nll,bilevel]", "seed=3", "--json", copy)
    assert fit(points, run, *words) == 0
    out, err = capsys.readouterr()
    assert copy.read_text() == (run / "results.json").read_text()

    names = ["mse", "nll", "beta_nll", "bilevel"]
    found = rows(run)
    assert [(row["objective"], row["seed"]) for row in found] == [
        (name, seed) for seed in (3, 4) for name in names
    ]
    for row in found:
        assert row.keys() >= ROW
        assert row["open_loop_rmse"].keys() == {"1", "5", "20"}
        assert (row["num_updates"], len(row["rmse_per_dim"])) == (12, 2)
        assert 0 < row["rmse"] < 10
        assert math.isfinite(row["nll"])
        assert 0 <= row["coverage_90"] <= 1
        assert row["wall_time_s"] > 0
        # Of the data alone: the same for every objective.
        first_of_seed = found[len(names) * (row["seed"] - 3)]
        assert row["persistence_rmse"] == first_of_seed["persistence_rmse"]

    assert {path.stem for path in (run / "plots").iterdir()} == {
        "calibration",
        "error_by_dimension",
        "open_loop",
        "open_loop_fans",
        "training",
    }
    pictures = events(run).Images("plots/open_loop_fans")
    assert [picture.step for picture in pictures] == [8]
    assert set(events(run).Tags()["images"]) == {
        f"plots/{path.stem}" for path in (run / "plots").iterdir()
    }
    report = (run / "report.md").read_text()
    assert report in out
    assert "| test episodes | mse | nll | beta_nll | bilevel |" in report
    assert "| bilevel - mse |" in report
    assert " +- " in report
    assert "8/8  bilevel, seed 4: rmse " in err
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert fit_config(config).labels == names
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"

    folder = run / "bilevel" / "s4"
    assert [row["step"] for row in logged(folder)] == [0, 5, 10, 12, 12]
    assert {"model/val_rmse", "model/val_nll", "model/train_loss"} <= set(logged(folder)[2])
    assert {"bilevel/outer_loss", "test/rmse"} <= set(logged(folder)[-1])
    assert "test/rmse" in events(folder).Tags()["scalars"]


@pytest.mark.usefixtures("no_pictures")
def test_the_seed_decides_every_number_but_the_time(points: Path, tmp_path: Path) -> None:
    words = ("objective=[nll,bilevel]", "seeds=1")
    for name, seed in (("a", 0), ("b", 0), ("c", 7)):
        assert fit(points, tmp_path / name, *words, f"seed={seed}") == 0
    first, again, other = (without_times(tmp_path / name) for name in "abc")
    assert first == again
    assert first[0]["persistence_rmse"] != other[0]["persistence_rmse"]
    assert first[0]["rmse"] != other[0]["rmse"]


@pytest.mark.usefixtures("no_pictures")
def test_a_result_does_not_depend_on_its_company(points: Path, tmp_path: Path) -> None:
    assert fit(points, tmp_path / "both", "objective=[mse,nll]") == 0
    assert fit(points, tmp_path / "one", "objective=nll", "seed=1", "seeds=1") == 0
    assert without_times(tmp_path / "one") == without_times(tmp_path / "both")[3:]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("ensemble_size", [1, 2])
def test_objectives_share_weights_batches_and_updates(ensemble_size: int, tmp_path: Path) -> None:
    # With these settings their losses are those of nll and mse. There are several epochs, and
    # more held-out rows than an outer step takes: it has to draw some.
    dataset = write_npz(tmp_path / "long.npz", num_episodes=10, length=150)
    same = "{name: bilevel, reward: diagonal, natural_gradient: 1, tails: null}"
    twins = f"[nll,{{name: beta_nll, beta: 0}},mse,{same}]"
    words = (f"model.ensemble_size={ensemble_size}", "model.batch_size=64", "seeds=1")
    words += ("model.optimizer=adamw", "model.own_predictions=0")
    share = "split={training: 0.3, held_out: 0.5, test: 0.2}"
    run = tmp_path / "run"
    assert fit(dataset, run, f"objective={twins}", "model.num_updates=40", *words, share) == 0
    nll, beta_nll, mse, bilevel = rows(run)
    assert beta_nll["nll"] == nll["nll"]
    assert bilevel["rmse"] == pytest.approx(mse["rmse"], rel=1e-6)
    assert mse["rmse"] != pytest.approx(nll["rmse"], rel=1e-3)


@pytest.mark.parametrize(("max_steps", "expected"), [(10, (10, 10)), (50_000, (60, 90))])
def test_steps_to_judge_on_are_of_their_own_episodes(
    max_steps: int, expected: tuple[int, int], points: Path
) -> None:
    share = "split={training: 0.5, held_out: 0.2, test: 0.3}"
    overrides = [f"dataset.path={points}", share, f"split.max_judged_steps={max_steps}"]
    config = fit_config(load_data(find_config("fit_pendulum"), overrides))
    parts = deal_out(load_episodes(points), config, seed=0)
    assert (len(parts.held_out), len(parts.test)) == expected
    assert len(parts.training) == 150
    taken = [{tuple(row) for row in part.obs} for part in (parts.training, parts.held_out)]
    test = {tuple(row) for row in parts.test.obs}
    assert len(test) == expected[1]
    assert not test & (taken[0] | taken[1])
    assert not taken[0] & taken[1]
    again = deal_out(load_episodes(points), config, seed=0)
    np.testing.assert_array_equal(parts.test.obs, again.test.obs)


@pytest.mark.usefixtures("no_pictures")
def test_it_learns(points: Path, tmp_path: Path) -> None:
    words = ("model.num_updates=400", "model.hidden_sizes=[32]", "model.lr=0.005", "seeds=1")
    assert fit(points, tmp_path / "run", "objective=bilevel", *words) == 0
    (row,) = rows(tmp_path / "run")
    assert row["rmse"] < 0.6 * row["persistence_rmse"]
    assert row["open_loop_rmse"]["5"] < row["open_loop_persistence"]["5"]


@pytest.mark.usefixtures("no_pictures")
def test_no_objective_stops_early(points: Path, tmp_path: Path) -> None:
    words = ("model.lr=1e-9", "model.num_updates=60", "model.eval_every=1", "seeds=1")
    assert fit(points, tmp_path / "run", "objective=mse", *words) == 0
    assert rows(tmp_path / "run")[0]["num_updates"] == 60


@pytest.mark.usefixtures("no_pictures")
def test_objectives_of_one_name_are_told_apart_by_their_settings(
    points: Path, tmp_path: Path
) -> None:
    words = ("objective=[nll,bilevel,{name: bilevel, reward: scalar}]", "seeds=1")
    assert fit(points, tmp_path / "run", *words) == 0
    names = ["nll", "bilevel", "bilevel-reward=scalar"]
    assert [row["objective"] for row in rows(tmp_path / "run")] == names
    assert (tmp_path / "run/bilevel-reward=scalar/s0/metrics.jsonl").exists()


@pytest.mark.usefixtures("no_pictures")
def test_ctrl_c_keeps_what_was_finished(
    points: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy.json"
    stop_at(3, KeyboardInterrupt(), monkeypatch)
    assert fit(points, run, "objective=[mse,nll]", "--json", copy) == 130
    out, err = capsys.readouterr()
    assert "stopped after 2 of 4 models, kept; go on with:\n" in out
    assert out.endswith(f"  mbrl-bilevel fit --resume --run-dir {run}\n")
    assert "Traceback" not in err
    assert [(row["objective"], row["seed"]) for row in rows(run)] == [("mse", 0), ("nll", 0)]
    assert copy.read_text() == (run / "results.json").read_text()
    assert "| mse | nll |" in (run / "report.md").read_text()
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"


@pytest.mark.usefixtures("no_pictures")
def test_ctrl_c_before_anything_was_finished(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(1, KeyboardInterrupt(), monkeypatch)
    assert fit(points, tmp_path / "run") == 130
    assert not (tmp_path / "run/results.json").exists()


@pytest.mark.usefixtures("no_pictures")
def test_training_that_diverges_is_named(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert fit(points, run, "objective=mse", "model.lr=1e30", "seeds=1") == 1
    assert "training diverged; lower model.lr" in capsys.readouterr().err
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"


def test_the_run_folder_is_named_after_configuration_and_seed(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(1, KeyboardInterrupt(), monkeypatch)
    assert cli("fit", "fit_halfcheetah", *TINY, f"dataset.path={points}", "seed=4") == 130
    (run,) = (tmp_path / "runs/fit_halfcheetah").iterdir()
    assert run.name.endswith("-s4")


@pytest.mark.parametrize(
    ("status", "words", "parts"),
    [
        (2, ["objective=mes"], ["'objective.name': 'mes'", "did you mean 'mse'?", "beta_nll"]),
        (2, ["objective=[nll,mes]"], ["'objective.name': 'mes'", "did you mean 'mse'?"]),
        (
            2,
            ["objective=[{name: bilevel, rewrd: scalar}]"],
            ["unknown key 'objective.rewrd'", "did you mean 'objective.reward'?"],
        ),
        (2, ["objective=[mse,mse]"], ["name each objective once"]),
        (2, ["objective=[]"], ["'objective': []", "at least 1 item"]),
        (2, ["modl.lr=1"], ["unknown key 'modl'", "did you mean 'model'?"]),
        (2, ["model.patience=3"], ["unknown key 'model.patience'"]),
        (2, ["seeds=0"], ["'seeds': 0", "greater than or equal to 1"]),
        (2, ["split.test=0.5"], ["'split'", "add up to 1.35"]),
        (2, ["open_loop.num_particles=10"], ["'open_loop.num_particles': 10", "equal to 39"]),
        (2, ["dataset.path=no.npz"], ["dataset file 'no.npz' does not exist"]),
        (2, ["dataset.path=toys/line-v0"], ["'toys/line-v0' is neither a folder nor the id of"]),
        (2, ["--json", "no/such.json"], ["--json no/such.json: its folder does not exist"]),
        (1, ["dataset.path=lone.npz"], ["lone.npz has 1 episode and cannot be split by episode"]),
    ],
)
def test_what_cannot_be_fitted_is_refused_and_leaves_nothing(
    status: int,
    words: list[str],
    parts: list[str],
    points: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    write_npz(tmp_path / "lone.npz", num_episodes=1)
    before = snapshot(tmp_path)
    assert fit(points, Path("run"), *words) == status
    out, err = capsys.readouterr()
    assert err.startswith("mbrl-bilevel: error: ")
    assert (out, err.count("\n")) == ("", 1)
    for part in parts:
        assert part in err
    assert snapshot(tmp_path) == before


def test_a_folder_with_a_run_is_not_written_to(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("mine")
    assert fit(points, run) == 1
    assert f"{run} already holds a run" in capsys.readouterr().err
    assert snapshot(run).keys() == {"config.yaml"}


def test_the_interval_is_students_and_what_diverged_is_named(points: Path) -> None:
    found = [
        {"objective": "mse", "seed": seed, "rmse": value, "open_loop_rmse": {"5": error}}
        for seed, value, error in ((0, 1.0, 1.0), (1, 2.0, math.inf), (2, 3.0, 1.0))
    ]
    assert over_seeds(found, "mse", "rmse") == pytest.approx((2.0, 4.303 / math.sqrt(3)))
    assert over_seeds(found, "mse", "open_loop_rmse", "5")[0] == math.inf
    row = {
        "objective": "mse",
        "seed": 0,
        **dict.fromkeys(("rmse", "rmse_raw", "nll", "ece", "sharpness", "wall_time_s"), 1.0),
        **dict.fromkeys(("coverage_50", "coverage_90", "coverage_95", "persistence_rmse"), 1.0),
        "open_loop_rmse": {"5": math.inf},
        "open_loop_coverage_90": {"5": 0.5},
        "open_loop_persistence": {"5": 1.0},
    }
    data = load_data(find_config("fit_pendulum"), [f"dataset.path={points}"])
    report = make_report([row], "points", fit_config(data))
    assert "| RMSE, k = 5 | diverged |" in report
    assert "paired" not in report


def test_help_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("fit", "--help") == 0
    out = capsys.readouterr().out
    assert "fit_pendulum" in out
    models: list[type[StrictConfig]] = [FitConfig, *OBJECTIVE_CONFIGS.values()]
    for model in models:
        for field in describe_fields(model):
            assert f"    {field.key} " in out
            assert field.meaning
            if field.key != "name":
                assert field.meaning in out


@pytest.mark.parametrize("name", ["fit_pendulum", "fit_halfcheetah"])
def test_shipped_configurations_are_valid(name: str) -> None:
    config = fit_config(load_data(find_config(name)))
    assert config.name == name
    assert config.labels == ["mse", "nll", "beta_nll", "bilevel"]
