"""What bilevel objectives with a reward that is the same for all inputs share."""

import math

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.tails import within_tails
from mbrl_bilevel.bilevel.task_objective import TaskObjective
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.rewards import MahalanobisReward
from mbrl_bilevel.rewards.mahalanobis import Structure
from mbrl_bilevel.types import Gaussian

MAX_SOLVE_STEPS = 100
"""Outer steps of a solve at most; Newton's near the optimum, it takes far fewer."""


class ConstantRewardBilevel(TaskObjective):
    """A Mahalanobis reward for each member, and the descent of the outer problem.

    Held-out data enters the outer problem by the residuals' second moments alone; a subclass says
    which, and what a preconditioned hypergradient step on them is.

    Args:
        ensemble_size: E.
        target_size: D.
        config: Temperature and steps.
        structure: Of the reward's matrix U.
    """

    def __init__(
        self, ensemble_size: int, target_size: int, config: BilevelConfig, structure: Structure
    ) -> None:
        super().__init__(target_size, config)
        self.outer_every = config.outer_every
        self.outer_lr = config.outer_lr
        self.tails = config.tails
        # Starts at Sigma* = I: targets are normalised.
        self.reward = MahalanobisReward(
            target_size, structure, initial=config.temperature / 2, num_members=ensemble_size
        )

    @torch.no_grad()
    def outer_step(self, prediction: Gaussian, target: Tensor) -> dict[str, float]:
        """Take one preconditioned hypergradient step on a held-out batch."""
        return self._step(self._second_moment(prediction, target), self.outer_lr)

    @torch.no_grad()
    def solve_outer(self, prediction: Gaussian, target: Tensor) -> dict[str, float]:
        """Iterate hypergradient steps to stationarity with the mean frozen."""
        second_moment = self._second_moment(prediction, target)
        metrics: dict[str, float] = {}
        for _ in range(MAX_SOLVE_STEPS):
            metrics = self._step(second_moment, 1.0)
            if metrics["bilevel/hypergradient_norm"] < 1e-6 * math.sqrt(second_moment.numel()):
                break
        return metrics

    def _within_tails(self, prediction: Gaussian, target: Tensor) -> Tensor:
        return within_tails(prediction.mean, target, self.tails)

    def _second_moment(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Of the residuals within the tails."""
        raise NotImplementedError

    def _step(self, second_moment: Tensor, lr: float) -> dict[str, float]:
        """Move the reward by a share `lr` of a full step; return what to log."""
        raise NotImplementedError
