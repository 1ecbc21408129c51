"""Exact undiscounted returns of episodes that a time limit ends."""

import numpy as np

from mbrl_bilevel.tabular.mdp import FloatArray, TabularMDP
from mbrl_bilevel.tabular.solvers import IntArray


def policy_return(mdp: TabularMDP, policy: IntArray, num_steps: int) -> float:
    """Return the mean return of episodes of `num_steps` at most that follow actions `[S]`.

    Where only reaching a goal pays, and pays one, this is the success rate.
    """
    rows = np.arange(mdp.num_states)
    continuation, rewards = mdp.continuation[rows, policy], mdp.expected_reward[rows, policy]
    values = np.zeros(mdp.num_states)
    for _ in range(_checked(num_steps)):
        values = rewards + continuation @ values
    return float(mdp.initial_distribution @ values)


def optimal_return(mdp: TabularMDP, num_steps: int) -> float:
    """Return the largest mean return of episodes of `num_steps` at most, by backward induction.

    No policy does better, one that sees how many steps are left included; a policy that does
    not, `[S]`, may have to do with less.
    """
    values: FloatArray = np.zeros(mdp.num_states)
    for _ in range(_checked(num_steps)):
        values = mdp.q_values(values, discount=1.0).max(axis=1)
    return float(mdp.initial_distribution @ values)


def _checked(num_steps: int) -> int:
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps}; it must be at least 1")
    return num_steps
