"""What configurations refuse, and how the messages say so."""

from typing import Any

import pytest
from pydantic import ValidationError

from mbrl_bilevel.config import (
    BetaNLLConfig,
    BilevelConfig,
    EnvConfig,
    ModelConfig,
    MSEConfig,
    NLLConfig,
    PGConfig,
    TrainConfig,
    validate,
)
from mbrl_bilevel.errors import ConfigError
from tests.config.cases import AgentConfig, RunConfig, ShootingConfig, TreeConfig, minimal_data


def with_value(key: str, value: object) -> dict[str, Any]:
    """A valid configuration but for the value at a dotted key."""
    data = minimal_data()
    node, *rest = data, *key.split(".")
    for part in rest[:-1]:
        node = node.setdefault(part, {})
    node[rest[-1]] = value
    return data


def check(key: str, value: object) -> TrainConfig[AgentConfig]:
    return validate(RunConfig, with_value(key, value))


def test_the_defaults() -> None:
    config = validate(RunConfig, minimal_data())
    assert config.env == EnvConfig(id="Pendulum-v1")
    assert config.objective == BilevelConfig()
    assert config.model == ModelConfig()
    assert config.agent.planner == ShootingConfig()
    assert config.seed == 0


def test_a_configuration_does_not_change() -> None:
    config = validate(RunConfig, minimal_data())
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mse", MSEConfig()),
        ("nll", NLLConfig()),
        ("beta_nll", BetaNLLConfig()),
        ("pg", PGConfig()),
        ({"name": "pg", "precision": "full"}, PGConfig(precision="full")),
        ("bilevel", BilevelConfig()),
        ({"name": "beta_nll", "beta": 0.75}, BetaNLLConfig(beta=0.75)),
        ({"reward": "scalar"}, BilevelConfig(reward="scalar")),
        ({}, BilevelConfig()),
    ],
)
def test_an_objective_by_name_or_by_its_settings(value: object, expected: object) -> None:
    assert check("objective", value).objective == expected


def test_a_planner_by_name_or_by_its_settings() -> None:
    assert check("agent.planner", "tree").agent.planner == TreeConfig()
    assert check("agent.planner", {"name": "tree", "depth": 5}).agent.planner == TreeConfig(depth=5)
    assert check("agent.planner", {"horizon": 7}).agent.planner == ShootingConfig(horizon=7)


def test_integers_stand_for_floats_but_not_the_other_way_round() -> None:
    assert check("model.lr", 1).model.lr == 1.0
    with pytest.raises(ConfigError, match=r"'seed': 1\.0; .*integer"):
        check("seed", 1.0)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "model.ensmble_size",
            r"unknown key 'model\.ensmble_size' \(value 3\), "
            r"did you mean 'model\.ensemble_size'\?; allowed in 'model': .*ensemble_size.*lr",
        ),
        (
            "ensemble_size",
            r"did you mean 'model\.ensemble_size'\?; allowed at the top level: .*seed",
        ),
        ("sed", "did you mean 'seed'"),
        ("modle", "did you mean 'model'"),
        ("agent.horizon", r"did you mean 'agent\.planner\.horizon'.*in 'agent': name, planner"),
        ("agent.planner.horizn", r"did you mean 'agent\.planner\.horizon'.*: horizon, name$"),
        ("env.kwarg", "did you mean 'env.kwargs'"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(key, 3)


def test_a_key_unlike_all_others_gets_no_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'model\.qqq' \(value 3\); allowed"):
        check("model.qqq", 3)


def test_a_setting_of_another_variant_is_not_offered() -> None:
    with pytest.raises(
        ConfigError, match=r"'objective\.beta' \(value 0\.5\), a setting of beta_nll "
    ):
        check("objective", {"name": "nll", "beta": 0.5})
    with pytest.raises(ConfigError, match=r"allowed in 'objective': beta, name$"):
        check("objective", {"name": "beta_nll", "reward": "scalar"})
    with pytest.raises(ConfigError, match=r"a setting of tree only; .*: horizon, name$"):
        check("agent.planner", {"depth": 2})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "3", r"'seed': '3'; .*integer"),
        ("seed", True, r"'seed': True; .*integer"),
        ("seed", -1, r"'seed': -1; .*greater than or equal to 0"),
        ("total_timesteps", 0, "'total_timesteps': 0; .*greater than or equal to 1"),
        ("eval.video", 1, "'eval.video': 1; .*boolean"),
        ("env.id", 3, "'env.id': 3; .*string"),
        ("env", "Pendulum-v1", "'env': 'Pendulum-v1'; .*dictionary"),
        ("model", None, "'model': None; .*dictionary"),
        ("model.lr", "fast", "'model.lr': 'fast'; .*number"),
        ("model.lr", 0, "'model.lr': 0; .*greater than 0"),
        ("model.lr", float("nan"), "'model.lr': nan; .*finite"),
        ("model.lr", float("inf"), "'model.lr': inf; .*finite"),
        ("model.weight_decay", -0.1, "'model.weight_decay': -0.1; .*greater than or equal to 0"),
        ("model.hidden_sizes", [], r"'model.hidden_sizes': \[\]; .*at least 1"),
        ("model.hidden_sizes", [64, 0], r"'model.hidden_sizes.1': 0; .*greater than or equal to 1"),
        ("model.hidden_sizes", 64, "'model.hidden_sizes': 64; .*list"),
        ("model.held_out_fraction", 0, "held_out_fraction': 0; .*greater than 0"),
        ("model.held_out_fraction", 1.0, "held_out_fraction': 1.0; .*less than 1"),
        ("model.num_elite_members", 6, r"num_elite_members': 6; .*at most model.ensemble_size=5"),
        ("device", "tpu", "'device': 'tpu'; .*'auto', 'cpu' or 'cuda'"),
        ("name", "my run", "'name': 'my run'; .*pattern"),
        ("objective.temperature", 0, "'objective.temperature': 0; .*greater than 0"),
        ("objective.natural_gradient", 1.5, "natural_gradient': 1.5; .*less than or equal to 1"),
        ("objective.outer_lr", 1.1, "'objective.outer_lr': 1.1; .*less than or equal to 1"),
        ("objective.reward", "neural", "'objective.reward': 'neural'; .*'full' or 'state_dep"),
        (
            "agent.planner",
            {"name": "tree", "depth": 10},
            r"'agent.planner.depth': 10; .*equal to 9",
        ),
        ("objective", 3, "'objective': 3"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"invalid value for .*{message}"):
        check(key, value)


@pytest.mark.parametrize("value", ["nl", {"name": "nl"}])
def test_a_variant_that_does_not_exist(value: object) -> None:
    message = (
        r"'objective\.name': 'nl', did you mean 'nll'\?; allowed: mse, nll, beta_nll, pg, bilevel$"
    )
    with pytest.raises(ConfigError, match=message):
        check("objective", value)


def test_a_missing_key_and_every_other_fault_at_once() -> None:
    data = minimal_data() | {"seed": -1, "modle": {}}
    del data["total_timesteps"], data["env"]["id"]
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, data)
    faults = str(caught.value).splitlines()
    assert len(faults) == 4
    for fault in ("missing key 'total_timesteps'", "missing key 'env.id'", "'seed'", "'modle'"):
        assert any(fault in line for line in faults), fault


def test_elites_are_counted_against_the_ensemble_of_the_same_configuration() -> None:
    assert validate(ModelConfig, {"ensemble_size": 7, "num_elite_members": 7}).ensemble_size == 7
    with pytest.raises(ConfigError, match=r"at most model\.ensemble_size=2"):
        validate(ModelConfig, {"ensemble_size": 2, "num_elite_members": 3})
