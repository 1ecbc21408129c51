"""The parts of the planning benchmark that its figures hang on."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a benchmark as a script would."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def import_benchmark(name: str) -> ModuleType:
        return importlib.import_module(name)

    return import_benchmark


def test_transitions_and_operations_are_counted(load):
    benchmark = load("planning_speed")
    assert benchmark.num_transitions(benchmark.SHAPE) == 400 * 5 * 30 * 20
    layers = 23 * 200 + 3 * 200 * 200 + 200 * 36
    assert benchmark.operations(benchmark.SHAPE) == 2 * layers


def test_ratios_are_those_of_medians(load, monkeypatch):
    benchmark = load("planning_speed")
    monkeypatch.setattr(benchmark, "PRECISIONS", ("float32", "bfloat16"))
    times = {
        "mbrl": [6.0, 90.0, 5.0],
        "float32": [3.0, 2.0, 4.0],
        "bfloat16": [1.0, 1.5, 2.0],
        "product float32": [0.2, 0.2, 0.2],
        "product bfloat16": [0.1, 0.1, 0.1],
    }
    summary = benchmark.summarise(times, benchmark.SHAPE)
    assert summary["float32"]["speedup"] == pytest.approx(2.0)
    assert summary["bfloat16"]["speedup"] == pytest.approx(4.0)
    assert summary["bfloat16"]["transitions_per_s"] == pytest.approx(800_000)
    peak = 2 * 2048**3 / 0.2
    share = 400_000 * benchmark.operations(benchmark.SHAPE) / peak
    assert summary["float32"]["share_of_float32_peak"] == pytest.approx(share)
    del times["mbrl"]
    assert "speedup" not in benchmark.summarise(times, benchmark.SHAPE)["float32"]


def test_it_runs_alone(load, monkeypatch, tmp_path, capsys):
    benchmark = load("planning_speed")
    monkeypatch.setattr(benchmark, "GEMM_SIZE", 32)
    small = "--hidden-size 8 --population-size 6 --num-elites 2 --horizon 2 --num-particles 2"
    results = tmp_path / "planning.json"
    options = ["--without-mbrl", "--turns", "1", "--json", str(results), *small.split()]
    monkeypatch.setattr(sys, "argv", ["planning_speed.py", *options])
    benchmark.main()
    content = json.loads(results.read_text(encoding="utf-8"))
    assert content["shape"]["population_size"] == 6
    assert set(content["summary"]) >= set(benchmark.PRECISIONS)
    assert "transitions/s" in capsys.readouterr().out


def test_a_worker_answers_each_request_and_ends_with_the_block(load, tmp_path):
    library = load("mbrl_lib")
    script = tmp_path / "echo.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    if 'end' in request: sys.exit(3)\n"
        "    print(json.dumps({'twice': 2 * request['value']}), flush=True)\n",
        encoding="utf-8",
    )
    with library.MbrlWorker(Path(sys.executable), script) as worker:
        assert [worker.ask({"value": value})["twice"] for value in (1, 5)] == [2, 10]
        with pytest.raises(RuntimeError, match=r"echo\.py ended with 3"):
            worker.ask({"end": True})


def test_a_folder_with_something_else_in_it_is_left_alone(load, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(SystemExit, match="is no virtual environment; choose another folder"):
        load("mbrl_lib").mbrl_python(tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "precious"
