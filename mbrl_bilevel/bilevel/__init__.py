"""Bilevel problems, their hypergradients and the solvers that find them."""

from mbrl_bilevel.bilevel.hypergradient import hypergradient
from mbrl_bilevel.bilevel.make_objective import make_objective
from mbrl_bilevel.bilevel.objective import Bilevel
from mbrl_bilevel.bilevel.policy_gradient import PolicyGradientLoss
from mbrl_bilevel.bilevel.problem import BilevelProblem, FunctionalProblem
from mbrl_bilevel.bilevel.solvers import (
    SOLVERS,
    DirectSolver,
    HypergradientResult,
    LinearSolution,
    LinearSolver,
    Solver,
    make_solver,
)

__all__ = [
    "SOLVERS",
    "Bilevel",
    "BilevelProblem",
    "DirectSolver",
    "FunctionalProblem",
    "HypergradientResult",
    "LinearSolution",
    "LinearSolver",
    "PolicyGradientLoss",
    "Solver",
    "hypergradient",
    "make_objective",
    "make_solver",
]
