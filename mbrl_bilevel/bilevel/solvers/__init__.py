"""Ways to differentiate a bilevel problem, by name."""

import difflib
from collections.abc import Iterable
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from mbrl_bilevel.bilevel.solvers.base import (
    DirectSolver,
    HypergradientResult,
    LinearSolution,
    LinearSolver,
    Matvec,
)
from mbrl_bilevel.bilevel.solvers.cg import CGSolver
from mbrl_bilevel.bilevel.solvers.closed_form import ClosedFormSolver
from mbrl_bilevel.bilevel.solvers.dense import DenseSolver
from mbrl_bilevel.bilevel.solvers.functional import FunctionalSolver
from mbrl_bilevel.bilevel.solvers.neumann import NeumannSolver
from mbrl_bilevel.bilevel.solvers.nystrom import NystromSolver
from mbrl_bilevel.bilevel.solvers.unrolled import UnrolledSolver
from mbrl_bilevel.errors import ConfigError

Solver = LinearSolver | DirectSolver

_CLASSES: tuple[type[Solver], ...] = (
    DenseSolver,
    CGSolver,
    NeumannSolver,
    NystromSolver,
    FunctionalSolver,
    UnrolledSolver,
    ClosedFormSolver,
)
SOLVERS = MappingProxyType({cls.name: cls for cls in _CLASSES})
"""Solver classes by name; a class's fields are its settings."""


def make_solver(name: str, **settings: Any) -> Solver:
    """The solver called `name`: a key of `SOLVERS`.

    Args:
        name: `dense`, `cg`, `neumann`, `nystrom`, `functional`, `unrolled` or `closed_form`.
        **settings: fields of its class; the rest keep their defaults.

    Raises:
        ConfigError: the name or a setting is unknown, or a value impossible.
    """
    if name not in SOLVERS:
        raise ConfigError(f"unknown solver {name!r}; {_suggest(name, SOLVERS)}")
    cls = SOLVERS[name]
    allowed = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for setting in settings:
        if setting not in allowed:
            raise ConfigError(
                f"solver {name!r} has no setting {setting!r}; {_suggest(setting, allowed)}"
            )
    return cls(**settings)


def _suggest(wrong: str, allowed: Iterable[str]) -> str:
    names = sorted(allowed)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}Allowed: {', '.join(names) or 'none'}"


__all__ = [
    "SOLVERS",
    "CGSolver",
    "ClosedFormSolver",
    "DenseSolver",
    "DirectSolver",
    "FunctionalSolver",
    "HypergradientResult",
    "LinearSolution",
    "LinearSolver",
    "Matvec",
    "NeumannSolver",
    "NystromSolver",
    "Solver",
    "UnrolledSolver",
    "make_solver",
]
