"""Gradient ascent on the predicted return, from the best plans that a search has found."""

from dataclasses import replace

import torch
from torch import Tensor

from mbrl_agents.planning.base import EvaluateFn, Planner, PlannerState, finite_returns, shift
from mbrl_agents.planning.cem import best_plans
from mbrl_agents.planning.config import RefinementConfig

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


class Refined:
    """A planner whose best plans climb the gradient of the return that the model predicts.

    The result of a search and the best other plans of its last evaluation are refined by Adam
    (all plans at once, each by its own gradient). Before and after are then judged together, by
    the same members and noise, and the best of all is the result: by the model's judgement, never
    worse than the search alone. Where it is better, the next step's search starts from it.

    The plans are Box action features in [-1, 1], and stay there. The `EvaluateFn` has to be
    differentiable for plans that require a gradient, as `TrajectorySampler.returns` is.
    """

    def __init__(self, planner: Planner, config: RefinementConfig) -> None:
        self.horizon = planner.horizon
        self.plans = planner.plans
        self.planner = planner
        self.config = config

    def initial_state(self, batch_size: int) -> PlannerState:
        return self.planner.initial_state(batch_size)

    def plan(
        self, evaluate: EvaluateFn, state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        last: list[Tensor] = []

        def remember(plans: Tensor) -> Tensor:
            returns = evaluate(plans)
            last[:] = [plans, returns]
            return returns

        found, next_state = self.planner.plan(remember, state, generator)
        candidates, returns = last
        num_others = min(self.config.num_plans - 1, candidates.shape[1])
        others, _ = best_plans(candidates, returns, num_others)
        before = torch.cat([found[:, None], others], dim=1)
        after = self._ascend(evaluate, before)
        judged = torch.cat([before, after], dim=1)
        # Of equally good ones the first: what the search found.
        best = finite_returns(evaluate(judged)).argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        plan = judged[rows, best]
        better = (best > 0)[:, None, None]
        shifted = shift(plan, self.plans.prior_center(*plan.shape[:2]))
        center = torch.where(better, shifted, next_state.center)
        return plan, replace(next_state, center=center)

    def _ascend(self, evaluate: EvaluateFn, plans: Tensor) -> Tensor:
        """Return plans `[B, K, H, A]` after all steps."""
        # Planning may run in inference mode, where nothing can be differentiated.
        with torch.inference_mode(False), torch.enable_grad():
            plans = plans.detach().clone()
            mean, square = torch.zeros_like(plans), torch.zeros_like(plans)
            for step in range(1, self.config.num_steps + 1):
                total = evaluate(plans.requires_grad_()).sum()
                if not total.requires_grad:  # the same return for all plans: nothing to climb
                    return plans.detach()
                (gradient,) = torch.autograd.grad(total, plans)
                # A plan that the model cannot judge has no direction to go.
                gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
                mean = mean.lerp(gradient, 1 - ADAM_BETAS[0])
                square = square.lerp(gradient.square(), 1 - ADAM_BETAS[1])
                direction = mean / (1 - ADAM_BETAS[0] ** step)
                scale = (square / (1 - ADAM_BETAS[1] ** step)).sqrt() + ADAM_EPSILON
                plans = (plans.detach() + self.config.lr * direction / scale).clamp(-1.0, 1.0)
        return plans
