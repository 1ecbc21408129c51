"""Which cells there are, with which settings; and what cannot be is named before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.experiments.compare.cells import Cell, plan
from tests.experiments.compare.cases import TINY, compare_config

ROOT = Path("runs/one")


def cells(**changes: Any) -> list[Cell]:
    return plan(compare_config(**changes), ROOT)


def test_every_task_objective_and_point_of_the_grid_has_every_seed() -> None:
    found = cells(
        tasks=["pets_pendulum", {"config": "pets_reacher", "label": "reach"}],
        seeds=2,
        seed=7,
        grid={"model.lr": [0.001, 0.01]},
    )
    assert len(found) == 2 * 2 * 2 * 2
    assert len({cell.folder for cell in found}) == len(found)
    assert [cell.seed for cell in found] == [7] * 8 + [8] * 8
    last = found[-1]
    assert last.method == "bilevel, model.lr=0.01"
    assert last.name == "reach, bilevel, model.lr=0.01, seed 8"
    assert last.folder == ROOT / "cells" / "reach" / "bilevel" / "model.lr=0.01" / "s8"
    assert (last.config.env.id, last.config.seed, last.config.model.lr) == ("Reacher-v5", 8, 0.01)


def test_the_more_special_setting_wins() -> None:
    objectives = [
        {"objective": "nll", "label": "nll_strong", "overrides": {"model.weight_decay": 0.3}},
        {"objective": {"name": "bilevel", "reward": "scalar"}, "label": "bilevel"},
    ]
    task = {"config": "pets_pendulum", "overrides": {"model.lr": 0.02, "eval.episodes": 3}}
    strong, scalar = cells(tasks=[task], objectives=objectives, overrides={**TINY, "model.lr": 0.5})
    assert strong.config.model.weight_decay == 0.3
    assert strong.config.objective.name == "nll"
    assert scalar.config.model.weight_decay == "auto"
    assert scalar.config.objective.reward == "scalar"
    assert {cell.config.model.lr for cell in (strong, scalar)} == {0.02}
    assert {cell.config.eval.episodes for cell in (strong, scalar)} == {3}
    assert {cell.config.num_threads for cell in (strong, scalar)} == {1}


def test_sections_are_merged() -> None:
    """As on the command line, where `overrides.eval.episodes=3` makes a section of it."""
    (cell,) = cells(objectives=["nll"], overrides={**TINY, "eval": {"episodes": 3}})
    assert (cell.config.eval.episodes, cell.config.eval.video) == (3, False)


def test_a_digest_tells_configurations_apart() -> None:
    one, other = cells(), cells(overrides={**TINY, "model.lr": 0.5})
    assert one[0].digest == cells()[0].digest
    assert one[0].digest != other[0].digest
    assert one[0].digest != one[1].digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["pets_pendulu"]}, "no configuration 'pets_pendulu', did you mean"),
        ({"objectives": ["nlll"]}, "cell pets_pendulum, nlll: .*'objective.name': 'nlll'"),
        ({"overrides": {"model.lrr": 1}}, "cell pets_pendulum, nll: unknown key 'model.lrr'"),
        ({"grid": {"model.lr": [-1]}}, "cell pets_pendulum, nll, model.lr=-1: .*'model.lr'"),
        ({"objectives": ["nll", "nll"]}, "two are called nll: give each a label"),
        ({"tasks": ["pets_pendulum"] * 2}, "two are called pets_pendulum"),
        ({"objectives": []}, "'objectives'"),
        ({"grid": {"model.lr": []}}, "'grid.model.lr'"),
        ({"grid": {"model.lr": [0.1, 0.1]}}, "two cells share the folder .*grid repeat"),
        ({"reference": "mse"}, "reference='mse'; allowed: nll, bilevel"),
        ({"engine": "slurm"}, "'engine'"),
        (
            {"tasks": [{"config": "pets_pendulum", "score": {"low": 1.0, "high": 1.0}}]},
            "low=1 must be below high=1",
        ),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cells(**changes)


def test_the_reference_is_bilevel_or_the_first() -> None:
    assert compare_config().reference_label == "bilevel"
    assert compare_config(objectives=["mse", "nll"]).reference_label == "mse"
    assert compare_config(reference="nll").reference_label == "nll"
