"""Planners over action sequences, and the rollouts that they judge plans by."""

from mbrl_agents.planning.base import EvaluateFn, Planner, PlannerState
from mbrl_agents.planning.cem import CEM
from mbrl_agents.planning.config import (
    CEMConfig,
    ICEMConfig,
    MPPIConfig,
    PlannerConfig,
    RandomShootingConfig,
    RefinementConfig,
    TerminalValueConfig,
)
from mbrl_agents.planning.icem import ICEM
from mbrl_agents.planning.make import make_planner, make_plans
from mbrl_agents.planning.mppi import MPPI
from mbrl_agents.planning.random_shooting import RandomShooting
from mbrl_agents.planning.refinement import Refined
from mbrl_agents.planning.terminal_value import Imagined, TerminalValue
from mbrl_agents.planning.trajectory_sampling import Propagation, TrajectorySampler

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "CEMConfig",
    "EvaluateFn",
    "ICEMConfig",
    "Imagined",
    "MPPIConfig",
    "Planner",
    "PlannerConfig",
    "PlannerState",
    "Propagation",
    "RandomShooting",
    "RandomShootingConfig",
    "Refined",
    "RefinementConfig",
    "TerminalValue",
    "TerminalValueConfig",
    "TrajectorySampler",
    "make_planner",
    "make_plans",
]
