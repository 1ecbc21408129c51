"""Comparisons that take seconds."""

from typing import Any

from mbrl_bilevel.config import validate
from mbrl_bilevel.config.compare import CompareConfig

TINY: dict[str, Any] = {
    "total_timesteps": 60,
    "eval.episodes": 1,
    "eval.video": False,
    "checkpoint.every": 20,
    "agent.learning_starts": 20,
    "agent.model_train_freq": 20,
    "agent.num_particles": 2,
    "agent.planner.horizon": 3,
    "agent.planner.population_size": 4,
    "agent.planner.num_iterations": 1,
    "agent.planner.num_elites": 2,
    "model.ensemble_size": 2,
    "model.hidden_sizes": [4],
    "model.num_updates": 20,
}


def compare_config(**changes: Any) -> CompareConfig:
    data = {
        "name": "tiny",
        "tasks": ["pets_pendulum"],
        "objectives": ["nll", "bilevel"],
        "overrides": TINY,
        "seeds": 1,
        "num_workers": 2,
    }
    return validate(CompareConfig, data | changes)
