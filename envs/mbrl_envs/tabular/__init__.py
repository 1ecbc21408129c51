"""Finite environments whose tables are known: a grid, a chain, and random processes."""

from mbrl_envs.tabular.base import TabularEnv
from mbrl_envs.tabular.chain import ChainEnv
from mbrl_envs.tabular.garnet import GarnetEnv
from mbrl_envs.tabular.grid_world import GridWorldEnv

__all__ = ["ChainEnv", "GarnetEnv", "GridWorldEnv", "TabularEnv"]
