"""GaussianToy-v0: a prediction as an action, its reward, and what is optimal."""

from mbrl_envs.gaussian_toy.env import GaussianToyEnv
from mbrl_envs.gaussian_toy.vector_env import GaussianToyVectorEnv

__all__ = ["GaussianToyEnv", "GaussianToyVectorEnv"]
