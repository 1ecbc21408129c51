"""Random shooting: the best of many uniformly drawn plans."""

import torch
from torch import Tensor

from mbrl_agents.planning.base import EvaluateFn, PlannerState, finite_returns, start_without_elites
from mbrl_agents.planning.config import RandomShootingConfig
from mbrl_agents.planning.plans import PlanDistribution


class RandomShooting:
    """Draws `population_size` plans and returns the best; remembers nothing."""

    def __init__(self, config: RandomShootingConfig, plans: PlanDistribution) -> None:
        self.horizon = config.horizon
        self.config = config
        self.plans = plans

    def initial_state(self, batch_size: int) -> PlannerState:
        return start_without_elites(self.plans, batch_size, self.horizon)

    def plan(
        self, evaluate: EvaluateFn, state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        shape = (self.config.population_size, self.horizon, self.plans.size)
        noise = torch.randn(shape, generator=generator).to(state.center.device)
        candidates = self.plans.uniform(noise, len(state.center))
        best = finite_returns(evaluate(candidates)).argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        return candidates[rows, best], PlannerState(state.center, state.elites, state.step + 1)
