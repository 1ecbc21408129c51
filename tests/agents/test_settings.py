import re
from typing import Any

import pytest

from mbrl_agents import PETS, PETSConfig
from mbrl_agents.planning import CEMConfig, ICEMConfig, RandomShootingConfig
from mbrl_agents.settings import agent_settings, model_settings, objective_settings
from mbrl_bilevel.config import BetaNLLConfig, BilevelConfig, ModelConfig, MSEConfig
from mbrl_bilevel.errors import ConfigError


def test_nothing_given_means_the_defaults() -> None:
    assert agent_settings(PETSConfig, {}) == PETSConfig()
    assert model_settings(None) == ModelConfig()
    assert model_settings({}) == ModelConfig()


def test_settings_are_taken_as_mappings_or_objects() -> None:
    for planner in ({"name": "cem", "horizon": 7}, CEMConfig(horizon=7)):
        assert agent_settings(PETSConfig, {"planner": planner}).planner == CEMConfig(horizon=7)
    assert model_settings(ModelConfig(ensemble_size=2)).ensemble_size == 2
    assert model_settings({"ensemble_size": 2}).ensemble_size == 2


@pytest.mark.parametrize(
    ("planner", "expected"),
    [
        ("cem", CEMConfig()),
        ("icem", ICEMConfig()),
        ("random_shooting", RandomShootingConfig()),
        ({"horizon": 9}, ICEMConfig(horizon=9)),
    ],
)
def test_a_planner_may_be_a_name_and_is_icem_without_one(planner: Any, expected: Any) -> None:
    config = agent_settings(PETSConfig, {"planner": planner})
    assert config.planner == expected
    assert type(config.planner) is type(expected)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("mse", MSEConfig()),
        ({"name": "beta_nll", "beta": 0.25}, BetaNLLConfig(beta=0.25)),
        (BilevelConfig(outer_lr=0.1), BilevelConfig(outer_lr=0.1)),
        ({"outer_lr": 0.1}, BilevelConfig(outer_lr=0.1)),
    ],
)
def test_an_objective_is_a_name_a_mapping_or_an_object(objective: Any, expected: Any) -> None:
    assert objective_settings(objective) == expected


def test_the_agent_keeps_what_it_was_given() -> None:
    agent = PETS(
        "Pendulum-v1",
        objective="nll",
        model={"hidden_sizes": [4]},
        planner={"name": "random_shooting", "horizon": 3},
        num_particles=2,
    )
    assert agent.objective_config.name == "nll"
    assert agent.model_config.hidden_sizes == [4]
    assert agent.config.planner == RandomShootingConfig(horizon=3)
    assert agent.planner.horizon == 3
    assert agent.sampler.num_particles == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"learning_start": 100},
            "unknown key 'learning_start' (value 100), did you mean 'learning_starts'?",
        ),
        (
            {"planner": {"name": "cem", "horizn": 3}},
            "unknown key 'planner.horizn' (value 3), did you mean 'planner.horizon'?",
        ),
        ({"planner": "ciem"}, "'planner.name': 'ciem', did you mean 'cem'?; allowed: icem, cem, "),
        (
            {"model": {"ensamble_size": 3}},
            "unknown key 'ensamble_size' (value 3), did you mean 'ensemble_size'?",
        ),
        ({"objective": "bileval"}, "'objective.name': 'bileval', did you mean 'bilevel'?"),
        (
            {"objective": {"name": "bilevel", "temprature": 1.0}},
            "unknown key 'objective.temprature' (value 1.0), did you mean 'objective.temperature'?",
        ),
        ({"num_particles": 0}, "invalid value for 'num_particles': 0"),
        ({"num_particles": "5"}, "invalid value for 'num_particles': '5'"),
        ({"learning_starts": 10}, "invalid value for 'learning_starts': 10"),
        ({"propagation": "ts2"}, "invalid value for 'propagation': 'ts2'"),
        (
            {"planner": {"name": "cem", "population_size": 4, "num_elites": 5}},
            "num_elites=5 exceeds population_size=4",
        ),
        ({"planner": {"kept_elites": 1.5}}, "invalid value for 'planner.kept_elites': 1.5"),
        ({"planner": {"noise_beta": -1.0}}, "invalid value for 'planner.noise_beta': -1.0"),
        ({"model": {"num_elite_members": 9}}, "at most model.ensemble_size=5"),
        ({"seed": -1}, "invalid value for 'seed': -1; allowed: 0 to 2**32 - 1"),
        ({"seed": 2**32}, "invalid value for 'seed': 4294967296; allowed: 0 to 2**32 - 1"),
        ({"device": "gpu"}, "device: 'gpu'; allowed: 'auto', 'cpu', 'cuda'"),
    ],
)
def test_what_cannot_be_is_refused_by_name_with_what_is_allowed(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        PETS("Pendulum-v1", **arguments)
