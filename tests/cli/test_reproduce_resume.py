"""`reproduce --resume`: the finished rows of a table stay, the others are added."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mbrl_bilevel.experiments.reproduce.table3_methods import METHODS, Method
from tests.cli.small import cli, snapshot
from tests.experiments.test_table3 import SMALL, write_dataset


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., int]:
    """Runs the table, small, on a dataset of its own."""
    path = write_dataset(tmp_path / "steps.npz")
    return lambda *words: cli("reproduce", "table3", f"dataset.path={path}", *SMALL, *words)


def rows(run: Path) -> list[dict[str, Any]]:
    results = json.loads((run / "results.json").read_text())["results"]
    return [{key: value for key, value in row.items() if key != "wall_time_s"} for row in results]


def interrupt_at(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let the fit of that number be interrupted; return the list that fits are noted in."""
    fitted: list[str] = []

    def wrap(name: str, method: Method) -> Method:
        def fit(task: Any) -> Any:
            fitted.append(name)
            if len(fitted) == number:
                raise KeyboardInterrupt
            return method.fit(task)

        return Method(method.label, fit)

    for name, method in METHODS.items():
        patch.setitem(METHODS, name, wrap(name, method))
    return fitted


def test_what_is_finished_stays_and_the_rest_is_added(
    table: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert table("seeds=2", "--run-dir", whole) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, len(METHODS) + 3)
        assert table("seeds=2", "--run-dir", run) == 130
    assert rows(run) == rows(whole)[: len(METHODS) + 2]
    assert f"--resume --run-dir {run}" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        fitted = interrupt_at(patch, -1)
        assert table("seeds=2", "--run-dir", run, "--resume") == 0
    assert fitted == list(METHODS)[2:]
    assert rows(run) == rows(whole)
    assert (run / "report.md").exists()
    before = (run / "results.json").read_text()
    with pytest.MonkeyPatch.context() as patch:  # nothing is left to do
        fitted = interrupt_at(patch, 1)
        assert table("seeds=2", "--run-dir", run, "--resume") == 0
    assert fitted == []
    assert (run / "results.json").read_text() == before


def test_other_settings_are_refused(
    table: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 2)
        assert table("seeds=1", "--run-dir", run) == 130
    capsys.readouterr()
    before = snapshot(run)
    assert table("seeds=2", "--run-dir", run, "--resume") == 2
    assert "seeds is 1, not 2" in capsys.readouterr().err
    assert snapshot(run) == before


def test_rows_of_something_else_are_not_taken(
    table: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert table("seeds=1", "--run-dir", run) == 0
    results = json.loads((run / "results.json").read_text())
    results["results"].reverse()
    (run / "results.json").write_text(json.dumps(results))
    assert table("seeds=1", "--run-dir", run, "--resume") == 1
    assert "row 1 is" in capsys.readouterr().err


def test_figures_begin_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("reproduce", "fig1", "--resume", "--run-dir", tmp_path) == 2
    assert "--resume: only tables can go on" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
