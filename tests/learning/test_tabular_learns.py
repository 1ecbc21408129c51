"""Tabular agents trained from nothing until they are good, on the slippery lake."""

from typing import Any

import pytest

from mbrl_agents import PSRL, DynaQ, TabularAgent


@pytest.mark.learning
@pytest.mark.parametrize(
    ("agent_class", "settings"),
    [
        (PSRL, {"reward_prior_count": 10.0}),
        (DynaQ, {"exploration": {"end": 0.1, "steps": 10_000}, "model_train_freq": 200}),
    ],
)
def test_the_lake_is_crossed_almost_as_often_as_can_be(
    agent_class: type[TabularAgent], settings: dict[str, Any]
) -> None:
    """Exact success rates in 100 steps; random actions reach the goal in 1.4% of the episodes."""
    agent = agent_class("FrozenLake-v1", seed=0, **settings).learn(12_000)
    metrics = agent.evaluation_metrics()
    assert metrics["eval/exact_return"] >= 0.95 * metrics["eval/optimal_return"]
