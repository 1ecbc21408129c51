"""The benchmarks' own parts: what they measure is nothing if they count wrongly."""

import importlib
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mbrl_bilevel.experiments.compare.beside import read_beside

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def load(monkeypatch):
    """Import a benchmark as a script would."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def import_benchmark(name: str) -> ModuleType:
        return importlib.import_module(name)

    return import_benchmark


def test_the_summary_of_figure_3_compares_medians(load):
    def results(times: list[float], u: float) -> list[dict[str, float]]:
        return [
            {"wall_time_s": time, "u_hat": u, "u_star_residual": 0.4, "u_true": 0.32}
            for time in times
        ]

    runs = {"published": results([30.0, 90.0, 40.0], 0.2), "cg": results([1.0, 2.0, 9.0], 0.4)}
    summary = load("fig3_speed").summarise(runs)
    assert "speedup" not in summary["published"]
    assert summary["cg"]["speedup"] == pytest.approx(20.0)
    assert summary["published"]["error_median"] == pytest.approx(0.5)
    assert summary["cg"]["error_max"] == pytest.approx(0.0)
    assert summary["cg"]["true_error_max"] == pytest.approx(0.25)


def test_runs_take_turns_and_the_first_turn_does_not_count(load):
    calls: list[str] = []
    runs = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    times = load("training_step_cost").measure(runs, turns=2, updates=1)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_a_benchmarked_functional_step_trains_model_and_reward(load):
    benchmark = load("training_step_cost")
    config = benchmark.ModelConfig(ensemble_size=2, hidden_sizes=[4], batch_size=8)
    trainer = benchmark.make_trainer(benchmark.BilevelConfig(), config)
    data = benchmark.make_transitions(20, seed=0)
    steps = benchmark.Steps(trainer, data, data)
    before = [p.clone() for p in trainer.model.network.parameters()], steps.outer_params["log_u"]
    steps.functional_update()
    weights, log_u = before
    after = list(trainer.model.network.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(weights, after, strict=True))
    assert (steps.outer_params["log_u"] != log_u).all()


def test_the_summary_of_model_speed_counts_updates_and_steps(load):
    benchmark = load("model_speed")
    shape = benchmark.SHAPE
    times = {
        "training 32, mbrl": [3.0, 9.0, 4.0],
        "training 32, float32": [2.0, 2.0, 1.0],
        "rollouts, float32": [0.5],
        "model steps, float32": [0.25],
        "product, MKL float32": [0.2],
    }
    summary = benchmark.summarise(times, shape)
    row = summary["training 32, float32"]
    assert row["speedup"] == pytest.approx(2.0)
    assert row["per_s"] == pytest.approx(benchmark.NUM_UPDATES[32] / 2.0)
    # Forward, gradients of the weights, and of every layer's inputs but the first's.
    multiplications = 3 * (23 * 200 + 3 * 200 * 200 + 200 * 36) - 23 * 200
    flops = 2 * multiplications * 32 * 5 * row["per_s"]
    assert row["gflops"] == pytest.approx(flops / 1e9)
    assert row["share_of_float32_peak"] == pytest.approx(flops / (2 * 2048**3 / 0.2))
    assert summary["rollouts, float32"]["per_s"] == pytest.approx(10_000 * 5 / 0.5)
    assert "speedup" not in summary["rollouts, float32"]
    assert summary["model steps, float32"]["per_s"] == pytest.approx(10_000 * 5 / 0.25)


def test_model_speed_trains_and_rolls_out(load, monkeypatch):
    benchmark = load("model_speed")
    monkeypatch.setattr(benchmark, "NUM_UPDATES", {4: 2})
    shape = benchmark.SHAPE | {"hidden_size": 4, "num_envs": 10, "num_transitions": 50}
    assert benchmark.training(shape, 4, "float32")() >= 0
    for precision in ("float32", "bfloat16"):
        assert benchmark.rollouts(shape, precision)() >= 0
        assert benchmark.model_steps(shape, precision)() >= 0


@pytest.mark.parametrize(("solver", "products"), [("cg", 6), ("functional", 4), ("unrolled", 2)])
def test_memory_is_measured_over_one_hypergradient(load, solver, products):
    benchmark = load("hypergradient_memory")
    problem, model = benchmark.make_problem(20)
    result = benchmark.differentiate(problem, model, solver, num_steps=2)
    assert result.num_hvps == products
    assert not result.negative_curvature
    assert benchmark.peak_memory() > 10  # MiB, with torch in it


def test_a_folder_with_something_else_in_it_is_left_alone(load, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(SystemExit, match="is no virtual environment; choose another folder"):
        load("published_procedure").environment_python(tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "precious"


def test_make_bench_runs_benchmarks_that_exist():
    output = subprocess.run(
        ["make", "--dry-run", "--always-make", "bench"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = re.findall(r"\b\w+\.py\b", output.split("for run in", 1)[1].split(";", 1)[0])
    assert set(names) == {
        "training_step_cost.py",
        "hypergradient_memory.py",
        "fig3_speed.py",
        "model_speed.py",
        "planning_speed.py",
        "learned_vec_env_speed.py",
    }
    assert all((ROOT / "benchmarks" / name).is_file() for name in names)


def test_runs_without_a_model_leave_rows_that_compare_reads(load, tmp_path):
    benchmark = load("model_free")
    path = tmp_path / "rows.jsonl"
    for task, steps in (("pendulum", 400), ("other", 200), ("pendulum", 450)):
        row = benchmark.train("SAC", "Pendulum-v1", steps, seed=3, num_episodes=1)
        benchmark.add_row(path, {"task": task, "objective": "SAC"} | row)
    (found,) = read_beside([str(path)], {"pendulum"}, {"bilevel"})
    assert (found["seed"], found["env_steps"]) == (3, 450)
    assert [step for step, _ in found["episodes"]] == [200, 400]
    assert -2000 < found["eval_return_mean"] < 0
    assert len(path.read_text().splitlines()) == 2
