"""From a planner's settings to the planner."""

import torch

from mbrl_agents.planning.base import Planner
from mbrl_agents.planning.cem import CEM
from mbrl_agents.planning.config import (
    AnyPlannerConfig,
    ICEMConfig,
    MPPIConfig,
    RandomShootingConfig,
)
from mbrl_agents.planning.icem import ICEM
from mbrl_agents.planning.mppi import MPPI
from mbrl_agents.planning.plans import CategoricalPlans, GaussianPlans, PlanDistribution
from mbrl_agents.planning.random_shooting import RandomShooting
from mbrl_agents.planning.refinement import Refined
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.errors import ConfigError


def make_planner(config: AnyPlannerConfig, codec: ActionCodec, device: torch.device) -> Planner:
    """Return the planner for an action space.

    Raises:
        ConfigError: If plans of Discrete actions are to be refined.
    """
    planner = _search(config, codec, device)
    if config.refinement is None:
        return planner
    if codec.is_discrete:
        raise ConfigError(
            f"invalid value for 'planner.refinement': {config.refinement.model_dump()}; allowed "
            "with Discrete actions: null (gradients need Box actions)"
        )
    return Refined(planner, config.refinement)


def _search(config: AnyPlannerConfig, codec: ActionCodec, device: torch.device) -> Planner:
    if isinstance(config, RandomShootingConfig):
        return RandomShooting(config, make_plans(codec, 1.0, device))
    plans = make_plans(codec, config.initial_std, device)
    if isinstance(config, MPPIConfig):
        return MPPI(config, plans)
    return ICEM(config, plans) if isinstance(config, ICEMConfig) else CEM(config, plans)


def make_plans(codec: ActionCodec, initial_std: float, device: torch.device) -> PlanDistribution:
    """Return the distribution over plans that fits an action space."""
    if codec.is_discrete:
        return CategoricalPlans(codec.size, device)
    return GaussianPlans(codec.size, initial_std, device)
