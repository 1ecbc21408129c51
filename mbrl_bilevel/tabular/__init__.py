"""Finite Markov decision processes: tables, exact solutions, and models learned from counts."""

from mbrl_bilevel.tabular.counts import TransitionCounts
from mbrl_bilevel.tabular.episodes import optimal_return, policy_return
from mbrl_bilevel.tabular.mdp import TabularMDP, mdp_from_outcomes, outcomes_of
from mbrl_bilevel.tabular.model import (
    dirichlet_mean,
    learn_transitions,
    learned_mdp,
    maximum_likelihood,
)
from mbrl_bilevel.tabular.one_hot import inner_solution, learn_beta
from mbrl_bilevel.tabular.solvers import (
    Solution,
    evaluate_policy,
    policy_iteration,
    value_iteration,
)
from mbrl_bilevel.tabular.state_dependent import learn_weights, state_dependent_solution

__all__ = [
    "Solution",
    "TabularMDP",
    "TransitionCounts",
    "dirichlet_mean",
    "evaluate_policy",
    "inner_solution",
    "learn_beta",
    "learn_transitions",
    "learn_weights",
    "learned_mdp",
    "maximum_likelihood",
    "mdp_from_outcomes",
    "optimal_return",
    "outcomes_of",
    "policy_iteration",
    "policy_return",
    "state_dependent_solution",
    "value_iteration",
]
