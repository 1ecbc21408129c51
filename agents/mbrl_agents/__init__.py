"""Planners and model-based agents."""

from mbrl_agents.base import ModelBasedAgent
from mbrl_agents.config import AgentConfig, OracleConfig, PETSConfig
from mbrl_agents.dyna import Dyna
from mbrl_agents.imagination import LearnedVecEnv, LearnedVectorEnv
from mbrl_agents.maac import MAAC, MAACConfig
from mbrl_agents.mbpo import MBPO
from mbrl_agents.oracle import Oracle
from mbrl_agents.pets import PETS
from mbrl_agents.policies.config import DynaConfig, MBPOConfig
from mbrl_agents.tabular import PSRL, DynaQ, QLearning, RMax, TabularAgent, TabularVI
from mbrl_bilevel.callbacks import Callback, CallbackList

__all__ = [
    "MAAC",
    "MBPO",
    "PETS",
    "PSRL",
    "AgentConfig",
    "Callback",
    "CallbackList",
    "Dyna",
    "DynaConfig",
    "DynaQ",
    "LearnedVecEnv",
    "LearnedVectorEnv",
    "MAACConfig",
    "MBPOConfig",
    "ModelBasedAgent",
    "Oracle",
    "OracleConfig",
    "PETSConfig",
    "QLearning",
    "RMax",
    "TabularAgent",
    "TabularVI",
]
