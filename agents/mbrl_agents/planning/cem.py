"""The cross-entropy method."""

import torch
from torch import Tensor

from mbrl_agents.planning.base import (
    EvaluateFn,
    PlannerState,
    finite_returns,
    shift,
    start_without_elites,
)
from mbrl_agents.planning.config import CEMConfig
from mbrl_agents.planning.plans import PlanDistribution


class CEM:
    """Draws plans, refits the distribution to the best, again and again; returns its centre.

    The centre, shifted by one step, is where the next step's search starts.
    """

    def __init__(self, config: CEMConfig, plans: PlanDistribution) -> None:
        self.horizon = config.horizon
        self.config = config
        self.plans = plans

    def initial_state(self, batch_size: int) -> PlannerState:
        return start_without_elites(self.plans, batch_size, self.horizon)

    def plan(
        self, evaluate: EvaluateFn, state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        center, spread = state.center, self.plans.prior_spread(state.center)
        shape = (self.config.population_size, self.horizon, self.plans.size)
        for _ in range(self.config.num_iterations):
            noise = torch.randn(shape, generator=generator).to(center.device)
            candidates = self.plans.sample(center, spread, noise)
            elites, _ = best_plans(candidates, evaluate(candidates), self.config.num_elites)
            center, spread = self.plans.refit(elites, center, spread, self.config.momentum)
        prior = self.plans.prior_center(*center.shape[:2])
        next_state = PlannerState(shift(center, prior), state.elites, state.step + 1)
        return self.plans.as_plan(center), next_state


def best_plans(candidates: Tensor, returns: Tensor, num_elites: int) -> tuple[Tensor, Tensor]:
    """Return the plans with the highest returns, best first, and these returns.

    Args:
        candidates: `[B, C, H, A]`.
        returns: `[B, C]`; nan counts as the worst.
        num_elites: K, at most C.

    Returns:
        `[B, K, H, A]` and `[B, K]`.
    """
    top = finite_returns(returns).topk(num_elites, dim=1)
    rows = torch.arange(len(returns), device=returns.device)[:, None]
    return candidates[rows, top.indices], top.values
