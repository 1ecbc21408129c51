"""Dynamic programming, against linear programming and plain loops."""

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_array

from mbrl_bilevel.tabular import (
    TabularMDP,
    evaluate_policy,
    optimal_return,
    policy_iteration,
    policy_return,
    value_iteration,
)
from mbrl_bilevel.tabular.mdp import FloatArray
from tests.tabular.cases import ALL, random_mdp, tables


def by_linear_programming(mdp: TabularMDP, discount: float) -> FloatArray:
    """The least values that no action exceeds (Puterman 1994, section 6.9)."""
    num_rows = mdp.num_states * mdp.num_actions
    states = np.repeat(np.eye(mdp.num_states), mdp.num_actions, axis=0)
    following = discount * mdp.continuation.reshape(num_rows, mdp.num_states)
    result = linprog(
        np.ones(mdp.num_states),
        A_ub=csr_array(following - states),
        b_ub=-mdp.expected_reward.reshape(num_rows),
        bounds=(None, None),
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert result.success
    return np.asarray(result.x, np.float64)


@pytest.mark.parametrize("env_id", ALL)
@pytest.mark.parametrize("discount", [0.5, 0.95])
def test_both_iterations_equal_linear_programming(env_id: str, discount: float) -> None:
    mdp = tables(env_id)
    expected = by_linear_programming(mdp, discount)
    for solution in (value_iteration(mdp, discount), policy_iteration(mdp, discount)):
        np.testing.assert_allclose(solution.values, expected, rtol=0, atol=1e-6)
        greedy = solution.q_values[np.arange(mdp.num_states), solution.policy]
        np.testing.assert_allclose(greedy, solution.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_of_random_processes_as_well(seed: int) -> None:
    mdp = random_mdp(seed)
    expected = by_linear_programming(mdp, 0.99)
    for solution in (value_iteration(mdp, 0.99), policy_iteration(mdp, 0.99)):
        np.testing.assert_allclose(solution.values, expected, rtol=0, atol=1e-6)


def test_the_error_is_held_to_the_tolerance() -> None:
    mdp = tables("Garnet-v0")
    exact = policy_iteration(mdp, 0.99).values
    for tol in (1e-1, 1e-3, 1e-6):
        found = value_iteration(mdp, 0.99, tol=tol)
        assert np.abs(found.values - exact).max() <= tol
    warm = value_iteration(mdp, 0.99, initial_values=exact)
    assert warm.num_iterations == 1


def test_the_lake_without_a_discount() -> None:
    """14 in 17 episodes on the slippery lake can be brought to the goal."""
    solution = value_iteration(tables("FrozenLake-v1"), 1.0, tol=1e-12)
    assert solution.values[0] == pytest.approx(14 / 17, abs=1e-9)


def test_too_few_iterations_warn() -> None:
    with pytest.warns(UserWarning, match="stopped after 3 iterations"):
        value_iteration(tables("Garnet-v0"), 0.99, max_iterations=3)


@pytest.mark.parametrize("discount", [-0.1, 1.0, 1.1, np.nan])
def test_impossible_discounts(discount: float) -> None:
    mdp = random_mdp(0)
    with pytest.raises(ValueError, match=r"it must lie in \[0, 1\)"):
        policy_iteration(mdp, discount)
    if discount != 1:
        with pytest.raises(ValueError, match=r"it must lie in \[0, 1\]"):
            value_iteration(mdp, discount)


def test_a_policys_values_are_those_of_its_chain() -> None:
    mdp = random_mdp(1)
    policy = np.array([0, 2, 1, 1, 0])
    values = np.zeros(5)
    for _ in range(2000):
        values = np.array([mdp.q_values(values, 0.9)[s, policy[s]] for s in range(5)])
    np.testing.assert_allclose(evaluate_policy(mdp, policy, 0.9), values, atol=1e-12)


def test_returns_of_limited_episodes_add_up_over_all_paths() -> None:
    """Against the sum over every path of three steps."""
    mdp, policy = random_mdp(2), np.array([1, 0, 2, 0, 1])

    def follow(state: int, steps_left: int, choose: bool) -> float:
        if steps_left == 0:
            return 0.0
        totals = [
            sum(
                mdp.transition_table[state, action, s]
                * (
                    mdp.reward_table[state, action, s]
                    + (1 - mdp.termination_table[state, action, s])
                    * follow(s, steps_left - 1, choose)
                )
                for s in range(5)
            )
            for action in (range(3) if choose else [policy[state]])
        ]
        return float(max(totals))

    start = mdp.initial_distribution
    fixed = sum(start[s] * follow(s, 3, choose=False) for s in range(5))
    best = sum(start[s] * follow(s, 3, choose=True) for s in range(5))
    assert policy_return(mdp, policy, 3) == pytest.approx(fixed, abs=1e-12)
    assert optimal_return(mdp, 3) == pytest.approx(best, abs=1e-12)
    with pytest.raises(ValueError, match="num_steps=0; it must be at least 1"):
        optimal_return(mdp, 0)
