"""Planners and model-based agents."""

from mbrl_agents.config import PETSConfig
from mbrl_agents.pets import PETS
from mbrl_bilevel.callbacks import Callback, CallbackList

__all__ = ["PETS", "Callback", "CallbackList", "PETSConfig"]
