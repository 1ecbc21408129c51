"""Agents for finite environments: tables instead of networks."""

from mbrl_agents.tabular.base import TabularAgent
from mbrl_agents.tabular.config import (
    DynaQConfig,
    ExplorationConfig,
    PSRLConfig,
    QLearningConfig,
    RMaxConfig,
    TabularAgentConfig,
    ValueIterationConfig,
)
from mbrl_agents.tabular.dyna_q import DynaQ
from mbrl_agents.tabular.psrl import PSRL
from mbrl_agents.tabular.q_learning import QLearning
from mbrl_agents.tabular.rmax import RMax
from mbrl_agents.tabular.value_iteration import TabularVI

__all__ = [
    "PSRL",
    "DynaQ",
    "DynaQConfig",
    "ExplorationConfig",
    "PSRLConfig",
    "QLearning",
    "QLearningConfig",
    "RMax",
    "RMaxConfig",
    "TabularAgent",
    "TabularAgentConfig",
    "TabularVI",
    "ValueIterationConfig",
]
