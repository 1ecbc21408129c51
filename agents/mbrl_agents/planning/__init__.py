"""Planners over action sequences, and the rollouts that they judge plans by."""

from mbrl_agents.planning.base import EvaluateFn, Planner, PlannerState
from mbrl_agents.planning.cem import CEM
from mbrl_agents.planning.config import (
    CEMConfig,
    ICEMConfig,
    PlannerConfig,
    RandomShootingConfig,
    TerminalValueConfig,
)
from mbrl_agents.planning.icem import ICEM
from mbrl_agents.planning.make import make_planner
from mbrl_agents.planning.random_shooting import RandomShooting
from mbrl_agents.planning.terminal_value import Imagined, TerminalValue
from mbrl_agents.planning.trajectory_sampling import Propagation, TrajectorySampler

__all__ = [
    "CEM",
    "ICEM",
    "CEMConfig",
    "EvaluateFn",
    "ICEMConfig",
    "Imagined",
    "Planner",
    "PlannerConfig",
    "PlannerState",
    "Propagation",
    "RandomShooting",
    "RandomShootingConfig",
    "TerminalValue",
    "TerminalValueConfig",
    "TrajectorySampler",
    "make_planner",
]
