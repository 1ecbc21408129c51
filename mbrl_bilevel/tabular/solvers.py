"""Exact solutions of finite processes: dynamic programming (Puterman 1994, chapter 6)."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.tabular.mdp import FloatArray, TabularMDP

IntArray = NDArray[np.int64]

IMPROVEMENT = 1e-10
"""Relative gain below which policy iteration keeps an action: rounding must not make it cycle."""


@dataclass(frozen=True)
class Solution:
    """Optimal values of a process.

    Attributes:
        values: `[S]`.
        q_values: `[S, A]`, backed up from `values`.
        policy: An optimal action in each state, the first of equals, `[S]`.
        num_iterations: How many it took.
    """

    values: FloatArray
    q_values: FloatArray
    policy: IntArray
    num_iterations: int


def value_iteration(
    mdp: TabularMDP,
    discount: float,
    *,
    tol: float = 1e-8,
    max_iterations: int = 100_000,
    initial_values: FloatArray | None = None,
) -> Solution:
    """Iterate Bellman's operator until the values are within `tol` of the optimal ones.

    With a discount below one that is guaranteed: the distance is at most `discount / (1 -
    discount)` times the last change. With a discount of one there is no such bound, and the
    iteration stops once a change is at most `tol`.

    Args:
        mdp: The process.
        discount: In `[0, 1]`.
        tol: Largest error of a value; positive.
        max_iterations: At most.
        initial_values: Where to start, `[S]`; None: zeros.

    Raises:
        ValueError: An argument is out of its range.

    Warns:
        UserWarning: The iterations were too few.
    """
    _check_discount(discount, at_most_one=True)
    if not tol > 0:
        raise ValueError(f"tol={tol}; it must be positive")
    largest_change = tol * (1 - discount) / discount if 0 < discount < 1 else tol
    values = np.zeros(mdp.num_states) if initial_values is None else initial_values
    for num_iterations in range(1, max_iterations + 1):  # noqa: B007 (used after it)
        new_values = mdp.q_values(values, discount).max(axis=1)
        change = np.abs(new_values - values).max()
        values = new_values
        if change <= largest_change:
            break
    else:
        warnings.warn(
            f"value iteration stopped after {max_iterations} iterations, the last of which still "
            f"changed a value by {change:.3g}",
            stacklevel=2,
        )
    return _solution(mdp, values, discount, num_iterations)


def policy_iteration(
    mdp: TabularMDP,
    discount: float,
    *,
    initial_policy: IntArray | None = None,
    max_iterations: int = 1000,
) -> Solution:
    """Evaluate a policy exactly and improve it, until nothing is gained.

    Args:
        mdp: The process.
        discount: In `[0, 1)`.
        initial_policy: Where to start, `[S]`; None: the best immediate rewards.
        max_iterations: At most; there are finitely many policies, and each is better than the last.

    Raises:
        ValueError: The discount is out of its range.
    """
    _check_discount(discount, at_most_one=False)
    rows = np.arange(mdp.num_states)
    policy = mdp.expected_reward.argmax(axis=1) if initial_policy is None else initial_policy
    for num_iterations in range(1, max_iterations + 1):  # noqa: B007 (used after it)
        values = evaluate_policy(mdp, policy, discount)
        q_values = mdp.q_values(values, discount)
        best = q_values.argmax(axis=1)
        gain = q_values[rows, best] - q_values[rows, policy]
        improves = gain > IMPROVEMENT * (1.0 + np.abs(values))
        if not improves.any():
            break
        policy = np.where(improves, best, policy)
    return _solution(mdp, values, discount, num_iterations)


def evaluate_policy(mdp: TabularMDP, policy: IntArray, discount: float) -> FloatArray:
    """Return the exact values `[S]` of following actions `[S]`, by a linear solve.

    Args:
        mdp: The process.
        policy: An action for each state.
        discount: In `[0, 1)`.

    Raises:
        ValueError: The discount is out of its range.
    """
    _check_discount(discount, at_most_one=False)
    rows = np.arange(mdp.num_states)
    system = np.eye(mdp.num_states) - discount * mdp.continuation[rows, policy]
    values = np.linalg.solve(system, mdp.expected_reward[rows, policy])
    return np.asarray(values, np.float64)


def _solution(mdp: TabularMDP, values: FloatArray, discount: float, iterations: int) -> Solution:
    q_values = mdp.q_values(values, discount)
    return Solution(values, q_values, q_values.argmax(axis=1), iterations)


def _check_discount(discount: float, *, at_most_one: bool) -> None:
    if not (0 <= discount < 1 or (at_most_one and discount == 1)):
        allowed = "[0, 1]" if at_most_one else "[0, 1)"
        raise ValueError(f"discount={discount}; it must lie in {allowed}")
