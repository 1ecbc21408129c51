"""Planners and model-based agents."""

from mbrl_agents.base import ModelBasedAgent
from mbrl_agents.config import AgentConfig, PETSConfig
from mbrl_agents.pets import PETS
from mbrl_bilevel.callbacks import Callback, CallbackList

__all__ = ["PETS", "AgentConfig", "Callback", "CallbackList", "ModelBasedAgent", "PETSConfig"]
