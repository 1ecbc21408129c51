"""Model predictive path integral control."""

import torch
from torch import Tensor

from mbrl_agents.planning.base import (
    EvaluateFn,
    PlannerState,
    finite_returns,
    shift,
    start_without_elites,
)
from mbrl_agents.planning.config import MPPIConfig
from mbrl_agents.planning.noise import colored_noise
from mbrl_agents.planning.plans import PlanDistribution


class MPPI:
    """Averages plans by the exponential of their returns, again and again around the average.

    The update of Williams et al. ("Information theoretic MPC for model-based reinforcement
    learning", 2017) with noise that may be correlated over time, as in Nagabandi et al. (2019).
    Noise keeps its scale: the average alone moves. The temperature is relative to the spread of
    the returns: the unit that a task pays in does not matter. The average, shifted by one step, is
    where the next step's search starts.
    """

    def __init__(self, config: MPPIConfig, plans: PlanDistribution) -> None:
        self.horizon = config.horizon
        self.config = config
        self.plans = plans

    def initial_state(self, batch_size: int) -> PlannerState:
        return start_without_elites(self.plans, batch_size, self.horizon)

    def plan(
        self, evaluate: EvaluateFn, state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        config = self.config
        center, spread = state.center, self.plans.prior_spread(state.center)
        for _ in range(config.num_iterations):
            noise = colored_noise(
                config.population_size, self.horizon, self.plans.size, config.noise_beta, generator
            )
            candidates = self.plans.sample(center, spread, noise.to(center.device))
            returns = finite_returns(evaluate(candidates))
            average = self.plans.average(candidates, return_weights(returns, config.temperature))
            # Where no plan can be judged, nothing is known better than the last centre.
            judged = returns.isfinite().any(dim=1)
            center = torch.where(judged[:, None, None], average, center)
        prior = self.plans.prior_center(*center.shape[:2])
        next_state = PlannerState(shift(center, prior), state.elites, state.step + 1)
        return self.plans.as_plan(center), next_state


def return_weights(returns: Tensor, temperature: float) -> Tensor:
    """Return weights `[B, C]`, proportional to exp(return / (temperature * spread)), summing to 1.

    Args:
        returns: `[B, C]`, finite or -inf; the latter weigh nothing. Rows without a finite one
            come out as zeros.
        temperature: In standard deviations of the row's finite returns.
    """
    finite = returns.isfinite()
    count = finite.sum(dim=1, keepdim=True).clamp_min(1)
    mean = returns.where(finite, 0.0).sum(dim=1, keepdim=True) / count
    deviations = (returns - mean).where(finite, 0.0)
    std = (deviations.square().sum(dim=1, keepdim=True) / count).sqrt()
    scale = temperature * std.clamp_min(1e-30)
    best = returns.amax(dim=1, keepdim=True)
    return ((returns - best) / scale).softmax(dim=1).nan_to_num(0.0)
