"""Planners and model-based agents."""

from mbrl_agents.callbacks import Callback, CallbackList
from mbrl_agents.config import PETSConfig
from mbrl_agents.pets import PETS

__all__ = ["PETS", "Callback", "CallbackList", "PETSConfig"]
