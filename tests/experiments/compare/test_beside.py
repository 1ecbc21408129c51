"""Rows of methods that were run elsewhere: read, refused, and shown beside."""

import json
from pathlib import Path
from typing import Any

import pytest

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.experiments.compare import compare
from mbrl_bilevel.experiments.compare.beside import read_beside
from mbrl_bilevel.experiments.compare.plots import make_figures
from mbrl_bilevel.experiments.compare.report import make_report
from tests.experiments.compare.cases import compare_config

TASK = "pets_pendulum"


def row(**changes: Any) -> dict[str, Any]:
    found = {
        "task": TASK, "objective": "SAC", "seed": 0, "status": "completed", "env_steps": 60,
        "eval_return_mean": -900.0, "episodes": [[20, -1200.0], [60, -1000.0]],
    }  # fmt: skip
    return found | changes


def save(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(path)


def read(*files: str) -> list[dict[str, Any]]:
    return [dict(each) for each in read_beside(files, {TASK}, {"nll", "bilevel"})]


def test_finished_rows_of_the_compared_tasks_are_read(tmp_path: Path) -> None:
    others = [row(task="pets_reacher"), {"task": TASK, "status": "failed"}]
    one = save(tmp_path / "one.jsonl", row(), row(seed=1, config="0123"), *others)
    other = save(tmp_path / "other.jsonl", row(objective="TD3"))
    found = read(one, other)
    assert [(each["objective"], each["seed"]) for each in found] == [
        ("SAC", 0), ("SAC", 1), ("TD3", 0),
    ]  # fmt: skip
    assert found[0]["episodes"] == [[20, -1200.0], [60, -1000.0]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(task="pets_reacher")], "rows.jsonl has no finished run of pets_pendulum"),
        ([row(objective="nll")], "'nll', which is compared here itself"),
        ([row(), row()], "SAC, seed 0 is in .*rows.jsonl twice"),
        ([row(), row(eval_return_mean="good")], "line 2: no row .*eval_return_mean"),
        ([row(episodes=[[20]])], "line 1: no row .*episodes"),
        ([[1, 2]], "line 1: no row of results: not a mapping"),
    ],
)
def test_rows_that_cannot_be_shown_are_refused(tmp_path: Path, rows: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(save(tmp_path / "rows.jsonl", *rows))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none.jsonl: No such file"):
        read(str(tmp_path / "none.jsonl"))
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text('{"task": NaN}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"damaged.jsonl, line 1"):
        read(str(damaged))


def test_nothing_is_run_before_the_files_are_read(tmp_path: Path) -> None:
    config = compare_config(beside=[str(tmp_path / "none.jsonl")])
    with pytest.raises(ConfigError, match="beside"):
        compare(config, tmp_path / "run", "mbrl-bilevel compare", show_progress=False)
    assert not (tmp_path / "run").exists()


def test_report_and_pictures_show_them_beside() -> None:
    own = [row(objective=name, axes={}) for name in ("nll", "bilevel")]
    own += [each | {"seed": 1} for each in own]
    others = [row(axes={}, eval_return_mean=-1100.0)]
    config = compare_config(seeds=2, beside=["sac.jsonl"])
    report = make_report(config, own, ["command"], others)
    assert "| SAC | -1100.0 |" in report
    assert "| bilevel | SAC | 1.00" in report
    assert "4 cells finished, 0 failed" in report
    assert "Runs of other methods (sac.jsonl): SAC on pets_pendulum: 1; fewer than five" in report
    (axes,) = make_figures(config, [*own, *others])["curves_pets_pendulum"].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["nll", "bilevel", "SAC"]


def test_files_may_join_a_finished_comparison(tmp_path: Path) -> None:
    config = compare_config(objectives=["nll"])
    compare(config, tmp_path / "run", "first", show_progress=False)
    joined = compare_config(objectives=["nll"], beside=[save(tmp_path / "sac.jsonl", row())])
    result = compare(joined, tmp_path / "run", "second", resume=True, show_progress=False)
    assert (result.num_cells, [each["objective"] for each in result.rows]) == (1, ["nll"])
    assert "| SAC | -900.0 |" in result.report
    lines = (tmp_path / "run" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1
