"""What planners share: their state from step to step, and their interface."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mbrl_agents.planning.plans import PlanDistribution

EvaluateFn = Callable[[Tensor], Tensor]
"""Plans of action features `[B, C, H, A]` -> predicted returns `[B, C]`; higher is better."""


@dataclass(frozen=True)
class PlannerState:
    """What a planner carries from one step to the next, for a batch of B observations.

    Attributes:
        center: Centre of the next search's distribution, `[B, H, A]`.
        elites: Plans worth trying again, shifted by the step taken, `[B, K, H, A]`; K may be 0.
        step: How many plans were made since the state was new; seeds deterministic planning.
    """

    center: Tensor
    elites: Tensor
    step: int

    def select(self, indices: Tensor) -> "PlannerState":
        """Return the state of the observations at `indices` (integers or bool mask)."""
        return PlannerState(self.center[indices], self.elites[indices], self.step)

    def restart(self, rows: Tensor, fresh: "PlannerState") -> "PlannerState":
        """Return the state with the rows marked in the bool mask `rows` `[B]` made anew."""
        if rows.all():
            return fresh
        center = torch.where(rows[:, None, None], fresh.center, self.center)
        elites = torch.where(rows[:, None, None, None], fresh.elites, self.elites)
        return replace(self, center=center, elites=elites)


class Planner(Protocol):
    """Searches for the plan with the highest predicted return."""

    horizon: int
    plans: PlanDistribution

    def initial_state(self, batch_size: int) -> PlannerState:
        """Return the state at the start of B episodes."""
        ...

    def plan(
        self, evaluate: EvaluateFn, state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        """Return the best plans found `[B, H, A]` and the state for the next step."""
        ...


def start_without_elites(plans: PlanDistribution, batch_size: int, horizon: int) -> PlannerState:
    """Return the state at the start of B episodes of a planner that keeps no plans."""
    center = plans.prior_center(batch_size, horizon)
    return PlannerState(center, center[:, None][:, :0], step=0)


def finite_returns(returns: Tensor) -> Tensor:
    """Return `returns` with nan and inf turned into -inf.

    Both come from a model that has left all data behind: a plan that cannot be judged is never
    chosen.
    """
    return returns.where(returns.isfinite(), -torch.inf)


def shift(center: Tensor, prior: Tensor) -> Tensor:
    """Return plans `[..., H, A]` one step on, the last step filled from `prior` `[..., H, A]`."""
    return torch.cat([center[..., 1:, :], prior[..., -1:, :]], dim=-2)
