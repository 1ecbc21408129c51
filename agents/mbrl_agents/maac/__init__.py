"""Model-augmented actor-critic: policy gradients through a learned model."""

from mbrl_agents.maac.agent import MAAC
from mbrl_agents.maac.config import MAACConfig

__all__ = ["MAAC", "MAACConfig"]
