"""What report and pictures show of a comparison, complete or not."""

from typing import Any

import pytest

from mbrl_bilevel.experiments.compare.plots import make_figures
from mbrl_bilevel.experiments.compare.report import make_report
from mbrl_bilevel.experiments.compare.table import make_table
from tests.experiments.compare.cases import compare_config


def row(objective: str, seed: int, value: float) -> dict[str, Any]:
    place = {"task": "pets_pendulum", "objective": objective, "axes": {}, "seed": seed}
    result = {"status": "completed", "eval_return_mean": value, "episodes": [], "evaluations": []}
    return {**place, **result}


def test_methods_are_paired_seed_by_seed() -> None:
    rows = [row("nll", seed, float(seed)) for seed in (0, 1, 2)]
    rows += [row("bilevel", seed, seed + 0.5) for seed in (1, 2, 3)]
    table = make_table(compare_config(seeds=4), rows)
    assert sorted(table.pairs("bilevel", "nll").tolist()) == [[1.5, 1.0], [2.5, 2.0]]
    assert table.pairs("bilevel", "mse").shape == (0, 2)
    report = make_report(compare_config(seeds=4), rows, ["command"])
    assert "| bilevel | nll |" in report
    assert "2 of 2" in report


@pytest.mark.parametrize(
    ("seeds", "finished", "said"),
    [
        (5, {"nll": 5, "bilevel": 5}, "Seeds 0 to 4. 10 cells finished, 0 failed."),
        (5, {"nll": 5, "bilevel": 4}, "4 have finished everywhere; fewer than five seeds"),
        (5, {"nll": 5}, "Seeds 0 to 4. 5 cells"),
        (3, {"nll": 3, "bilevel": 3}, "Seeds 0 to 2; fewer than five seeds"),
    ],
)
def test_few_seeds_are_no_result(seeds: int, finished: dict[str, int], said: str) -> None:
    rows = [row(name, seed, 1.0) for name, number in finished.items() for seed in range(number)]
    assert said in make_report(compare_config(seeds=seeds), rows, ["command"])


def test_pictures_show_every_task_with_curves_and_final_evaluations() -> None:
    rows = [row("nll", seed, float(seed)) | {"env_steps": 60} for seed in (0, 1, 2)]
    rows[0]["episodes"] = [[20, -1.0], [60, 1.0]]
    rows += [each | {"task": "pets_reacher"} for each in rows]
    config = compare_config(tasks=["pets_pendulum", "pets_reacher"], seeds=3)
    figures = make_figures(config, rows)
    assert set(figures) == {
        "curves_pets_pendulum", "curves_pets_reacher", "curves", "aggregates",
    }  # fmt: skip
    panels = figures["curves"].axes
    assert [panel.get_title(loc="left") or panel.get_title() for panel in panels] == [
        "pets_pendulum", "pets_reacher",
    ]  # fmt: skip
    curve, interval, dot = panels[0].lines
    assert curve.get_ydata().tolist()[0] == -1.0
    assert dot.get_ydata().tolist() == [1.0]
    assert interval.get_xdata()[0] > 60
