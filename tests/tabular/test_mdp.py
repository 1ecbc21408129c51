"""Finite processes as tables."""

from typing import Any

import numpy as np
import pytest

from mbrl_bilevel.tabular import TabularMDP, mdp_from_outcomes, outcomes_of, value_iteration
from tests.tabular.cases import ALL, random_mdp, tables


def test_outcomes_that_lead_to_one_state_are_merged() -> None:
    outcomes = {
        0: {0: [(0.5, 1, 2.0, False), (0.25, 1, 8.0, True), (0.25, 0, 1.0, False)]},
        1: {0: [(1.0, 1, 0.0, False)]},
    }
    mdp = mdp_from_outcomes(outcomes, np.array([1.0, 0.0]))
    np.testing.assert_allclose(mdp.transition_table[0, 0], [0.25, 0.75])
    np.testing.assert_allclose(mdp.reward_table[0, 0], [1.0, 4.0])
    np.testing.assert_allclose(mdp.termination_table[0, 0], [0.0, 1 / 3])
    assert mdp.expected_reward[0, 0] == pytest.approx(0.5 * 2 + 0.25 * 8 + 0.25)
    assert mdp.continuation[0, 0, 1] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_what_becomes_of_outcomes_and_back(seed: int) -> None:
    mdp = random_mdp(seed)
    again = mdp_from_outcomes(outcomes_of(mdp), mdp.initial_distribution)
    for name in ("transition_table", "reward_table", "termination_table", "initial_distribution"):
        np.testing.assert_allclose(getattr(again, name), getattr(mdp, name), atol=1e-12)


@pytest.mark.parametrize("env_id", ALL)
def test_a_backup_is_the_sum_over_the_outcomes(env_id: str) -> None:
    mdp = tables(env_id)
    values = np.random.default_rng(0).standard_normal(mdp.num_states)
    outcomes = outcomes_of(mdp)
    states = np.random.default_rng(1).choice(mdp.num_states, min(mdp.num_states, 30), replace=False)
    expected = [
        [
            sum(p * (r + 0.9 * (not ends) * values[s]) for p, s, r, ends in outcomes[state][action])
            for action in range(mdp.num_actions)
        ]
        for state in states.tolist()
    ]
    np.testing.assert_allclose(mdp.q_values(values, 0.9)[states], expected, atol=1e-12)


def test_nothing_counts_after_a_step_that_terminated() -> None:
    """The tables of CliffWalking go on from its goal; a large reward there must not be seen."""
    outcomes = {
        0: {0: [(1.0, 1, 1.0, True)], 1: [(1.0, 0, 0.0, False)]},
        1: {0: [(1.0, 1, 1000.0, False)], 1: [(1.0, 0, 0.0, False)]},
    }
    solution = value_iteration(mdp_from_outcomes(outcomes, np.array([1.0, 0.0])), 0.9)
    assert solution.values[0] == pytest.approx(1.0)
    assert solution.policy[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transition_table": np.ones((2, 3))}, r"transition_table has shape \[2, 3\]"),
        ({"transition_table": np.full((5, 3, 5), 0.3)}, "transition_table does not hold prob"),
        ({"reward_table": np.zeros((5, 3))}, r"reward_table has shape \[5, 3\]; .* \[5, 3, 5\]"),
        ({"reward_table": np.full((5, 3, 5), np.nan)}, "reward_table holds nan"),
        ({"termination_table": np.full((5, 3, 5), 1.5)}, "termination_table must lie between"),
        ({"initial_distribution": np.ones(5)}, "initial_distribution does not hold prob"),
    ],
)
def test_tables_that_are_none(change: dict[str, Any], message: str) -> None:
    mdp = random_mdp(0)
    names = ("transition_table", "reward_table", "termination_table", "initial_distribution")
    with pytest.raises(ValueError, match=message):
        TabularMDP(**({name: getattr(mdp, name) for name in names} | change))
