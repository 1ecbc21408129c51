"""From a planner's settings to the planner."""

import torch

from mbrl_agents.planning.base import Planner
from mbrl_agents.planning.cem import CEM
from mbrl_agents.planning.config import CEMConfig, ICEMConfig, RandomShootingConfig
from mbrl_agents.planning.icem import ICEM
from mbrl_agents.planning.plans import CategoricalPlans, GaussianPlans, PlanDistribution
from mbrl_agents.planning.random_shooting import RandomShooting
from mbrl_bilevel.data import ActionCodec


def make_planner(
    config: ICEMConfig | CEMConfig | RandomShootingConfig, codec: ActionCodec, device: torch.device
) -> Planner:
    """Return the planner for an action space."""
    if isinstance(config, RandomShootingConfig):
        return RandomShooting(config, _plans(codec, 1.0, device))
    plans = _plans(codec, config.initial_std, device)
    return ICEM(config, plans) if isinstance(config, ICEMConfig) else CEM(config, plans)


def _plans(codec: ActionCodec, initial_std: float, device: torch.device) -> PlanDistribution:
    if codec.is_discrete:
        return CategoricalPlans(codec.size, device)
    return GaussianPlans(codec.size, initial_std, device)
