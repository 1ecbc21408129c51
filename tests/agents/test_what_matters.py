"""Agents tell their models what the task asks for: rewards, ends, and what states are worth."""

import pytest
from torch import Tensor

from mbrl_agents import PETS

PLANNER = {"horizon": 3, "population_size": 8, "num_iterations": 1, "num_elites": 2}
MODEL = {"ensemble_size": 2, "hidden_sizes": [16], "num_updates": 150, "patience": 100}
ANGLE, ANGULAR_VELOCITY = 1, 3


def shares(terminal_value: dict[str, float] | None) -> Tensor:
    agent = PETS(
        "mbrl_envs:InvertedPendulumDistractors-v0",
        model=MODEL,
        planner=PLANNER,
        learning_starts=150,
        model_train_freq=10,
        terminal_value=terminal_value,
    )
    agent.learn(160)
    assert agent.num_fits == 2
    found = agent.model.objective.relevance
    assert found is not None
    return found


def test_a_pole_that_is_paid_for_being_up_matters_by_how_it_falls() -> None:
    """The reward is the same for every step: all alike, two of 24 would have .08.

    A small model after two short fits still takes the appended dimensions for causes of the fall.
    """
    found = shares(None)
    assert found[[ANGLE, ANGULAR_VELOCITY]].sum() > 0.4


def test_what_states_are_worth_counts_beside_the_ends() -> None:
    """The value of a second fit, learned from little, sees all dimensions: it has half the vote."""
    alone, found = shares(None), shares({"num_rounds": 5, "num_updates": 20})
    pole = found[[ANGLE, ANGULAR_VELOCITY]].sum()
    assert alone[4:].sum() < found[4:].sum()
    assert pole > found[4:].mean() * 5
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)
