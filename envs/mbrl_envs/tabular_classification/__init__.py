"""TabularClassification-v0: a class as an action, and its reward."""

from mbrl_envs.tabular_classification.env import TabularClassificationEnv
from mbrl_envs.tabular_classification.vector_env import TabularClassificationVectorEnv

__all__ = ["TabularClassificationEnv", "TabularClassificationVectorEnv"]
