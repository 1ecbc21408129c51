"""Environments whose episodes have one step: a prediction, and its reward."""

from mbrl_envs.one_step.env import OneStepEnv
from mbrl_envs.one_step.problem import Array, OneStepProblem
from mbrl_envs.one_step.reward_matrix import check_temperature, constant_u, trace_u
from mbrl_envs.one_step.vector_env import OneStepVectorEnv

__all__ = [
    "Array",
    "OneStepEnv",
    "OneStepProblem",
    "OneStepVectorEnv",
    "check_temperature",
    "constant_u",
    "trace_u",
]
