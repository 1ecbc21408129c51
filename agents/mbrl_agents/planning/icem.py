"""Improved cross-entropy method."""

import torch
from torch import Tensor

from mbrl_agents.planning.base import EvaluateFn, PlannerState, finite_returns, shift
from mbrl_agents.planning.cem import best_plans
from mbrl_agents.planning.config import ICEMConfig
from mbrl_agents.planning.noise import colored_noise
from mbrl_agents.planning.plans import PlanDistribution


class ICEM:
    """CEM that needs few plans (Pinneri et al., "Sample-efficient Cross-Entropy Method", 2020).

    Plans are drawn with noise that is correlated over time; populations shrink from iteration to
    iteration; some elites enter the next iteration and, shifted, the next step; the centre is a
    candidate, in every iteration; the best plan ever seen is the result.
    """

    def __init__(self, config: ICEMConfig, plans: PlanDistribution) -> None:
        self.horizon = config.horizon
        self.config = config
        self.plans = plans
        self.num_kept = round(config.kept_elites * config.num_elites)

    def initial_state(self, batch_size: int) -> PlannerState:
        center = self.plans.prior_center(batch_size, self.horizon)
        kept = self.plans.as_plan(center)[:, None].expand(-1, self.num_kept, -1, -1)
        return PlannerState(center, kept, step=0)

    def plan(
        self, evaluate: EvaluateFn, state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        config = self.config
        center, spread = state.center, self.plans.prior_spread(state.center)
        kept = state.elites
        best_plan = self.plans.as_plan(center)
        best_return = torch.full(center.shape[:1], -torch.inf, device=center.device)
        for iteration in range(config.num_iterations):
            # The centre comes last, and wins ties below: where many plans are equally good (a
            # reward for staying alive, say), their average is a better guess than any of them.
            drawn = self._draw(iteration, center, spread, generator)
            middle = self.plans.as_plan(center)
            candidates = torch.cat([drawn, kept, middle[:, None]], dim=1)
            returns = finite_returns(evaluate(candidates))
            elites, elite_returns = best_plans(candidates, returns, config.num_elites)
            better = elite_returns[:, 0] > best_return
            best_plan = torch.where(better[:, None, None], elites[:, 0], best_plan)
            best_return = torch.maximum(elite_returns[:, 0], best_return)
            ties = returns[:, -1] >= best_return
            best_plan = torch.where(ties[:, None, None], middle, best_plan)
            center, spread = self.plans.refit(elites, center, spread, config.momentum)
            kept = elites[:, : self.num_kept]
        prior = self.plans.prior_center(*center.shape[:2])
        # The new last step of a kept plan repeats the old one: any action is as good a guess.
        next_state = PlannerState(shift(center, prior), shift(kept, kept), state.step + 1)
        return best_plan, next_state

    def _draw(
        self, iteration: int, center: Tensor, spread: Tensor, generator: torch.Generator
    ) -> Tensor:
        config = self.config
        shrunk = round(config.population_size * config.population_decay**-iteration)
        num_plans = max(shrunk, 2 * config.num_elites)
        noise = colored_noise(
            num_plans, self.horizon, self.plans.size, config.noise_beta, generator
        )
        return self.plans.sample(center, spread, noise.to(center.device))
