"""Bilevel problems, their hypergradients and the solvers that find them."""

from mbrl_bilevel.bilevel.combined import combined
from mbrl_bilevel.bilevel.fit_record import BilevelFit, OuterStep
from mbrl_bilevel.bilevel.full_reward import FullBilevel
from mbrl_bilevel.bilevel.hypergradient import hypergradient
from mbrl_bilevel.bilevel.make_objective import make_objective
from mbrl_bilevel.bilevel.objective import Bilevel
from mbrl_bilevel.bilevel.outer import MultiStepNLL, as_model_fn, held_out_nll
from mbrl_bilevel.bilevel.outer_return import ReturnError, ValueEquivalence
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
from mbrl_bilevel.bilevel.trainer import BilevelTrainer
from mbrl_bilevel.bilevel.weight_decay import with_weight_decay

__all__ = [
    "SOLVERS",
    "Bilevel",
    "BilevelFit",
    "BilevelProblem",
    "BilevelTrainer",
    "DirectSolver",
    "FullBilevel",
    "FunctionalProblem",
    "HypergradientResult",
    "LinearSolution",
    "LinearSolver",
    "MultiStepNLL",
    "OuterStep",
    "PolicyGradientLoss",
    "ReturnError",
    "Solver",
    "ValueEquivalence",
    "as_model_fn",
    "combined",
    "held_out_nll",
    "hypergradient",
    "make_objective",
    "make_solver",
    "with_weight_decay",
]
