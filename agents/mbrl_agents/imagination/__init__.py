"""The learned dynamics as vectorised environments: for Stable-Baselines3 and for Gymnasium."""

from mbrl_agents.imagination.batch import BatchStep, ImaginedBatch, StartObs
from mbrl_agents.imagination.dynamics import (
    DynamicsOptions,
    ImaginedDynamics,
    ImaginedStep,
    LearnedDynamics,
    Uncertainty,
)
from mbrl_agents.imagination.gym_vector import LearnedVectorEnv
from mbrl_agents.imagination.sb3 import LearnedVecEnv

__all__ = [
    "BatchStep",
    "DynamicsOptions",
    "ImaginedBatch",
    "ImaginedDynamics",
    "ImaginedStep",
    "LearnedDynamics",
    "LearnedVecEnv",
    "LearnedVectorEnv",
    "StartObs",
    "Uncertainty",
]
