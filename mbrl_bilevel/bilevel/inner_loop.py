"""Solving the inner problem: steps of any optimiser on the model itself."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mbrl_bilevel.bilevel.policy_gradient import PolicyGradientLoss
from mbrl_bilevel.bilevel.problem import ParamDict
from mbrl_bilevel.estimators import SampledEstimator, ScoreFunction
from mbrl_bilevel.rewards import MahalanobisReward, Precision, QuadraticReward, Reward

ResultT = TypeVar("ResultT")

OptimizerFn = Callable[[list[nn.Parameter]], Optimizer]
ScheduleFn = Callable[[Optimizer], LRScheduler]


class _FixedReward(QuadraticReward):
    """A quadratic reward with a U that is known, whatever the parameters and the inputs."""

    def __init__(self, target_size: int, precision: Precision) -> None:
        super().__init__()
        self.target_size = target_size
        self._precision = precision

    def precision(self, x: Tensor | None = None) -> Precision:
        del x
        return self._precision

    def using(self, params: Mapping[str, Tensor], compute: Callable[[Reward], ResultT]) -> ResultT:
        del params
        return compute(self)


class InnerLoop:
    """Warm-started training of a model by a reward: what it has learned, and the optimiser's
    state, stay from one call of `run` to the next.

    Args:
        model: Trained in place, in whatever mode it is.
        loss: The inner loss; a sampled estimator draws new noise for every step.
        natural_gradient: Exponent of the preconditioner of the outputs' gradient.
        data: `(x [N, ...], y [N, ...])`.
        batch_size: None: all of it in every step; else batches of shuffled epochs.
        optimizer_fn: Makes the optimiser of the model's learned parameters.
        schedule_fn: Makes a learning-rate schedule, stepped after every step; None: none.
        generator: Shuffles.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: PolicyGradientLoss,
        natural_gradient: float,
        data: tuple[Tensor, Tensor],
        batch_size: int | None,
        optimizer_fn: OptimizerFn,
        schedule_fn: ScheduleFn | None,
        generator: torch.Generator,
    ) -> None:
        self._model = model
        self._loss = loss
        self._natural_gradient = natural_gradient
        self._x, self._y = data
        self._params = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = optimizer_fn(self._params)
        self._schedule = None if schedule_fn is None else schedule_fn(self._optimizer)
        self._generator = generator
        whole = batch_size is None or batch_size >= len(self._x)
        self._batches = None if whole else self._shuffled_batches(batch_size or len(self._x))

    def run(self, num_steps: int, outer_params: ParamDict, follow_schedule: bool = True) -> None:
        """Take `num_steps` steps; `outer_params` (detached) say which reward to maximise."""
        behaviour = self._behaviour()
        loss = self._loss_with(outer_params)
        for _ in range(num_steps):
            x, y, old = self._x, self._y, behaviour
            if self._batches is not None:
                rows = next(self._batches)
                x, y = x[rows], y[rows]
                old = None if behaviour is None else behaviour[..., rows, :]
            self._optimizer.zero_grad()
            outputs = loss.head.precondition(self._model(x), self._natural_gradient)
            losses = loss(outputs, outer_params, x, y, old)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            if self._schedule is not None and follow_schedule:
                self._schedule.step()
            if isinstance(loss.estimator, SampledEstimator):
                loss.estimator.resample()
        self._optimizer.zero_grad()

    def _loss_with(self, outer_params: ParamDict) -> PolicyGradientLoss:
        """The loss for a block of steps, with U evaluated once for all of them if it can be."""
        reward = self._loss.reward
        if not isinstance(reward, QuadraticReward):
            return self._loss
        if self._batches is not None and not isinstance(reward, MahalanobisReward):
            return self._loss
        x = self._x

        def precision(reward: Reward) -> Precision:
            assert isinstance(reward, QuadraticReward)
            return reward.precision(x)

        with torch.no_grad():
            fixed = _FixedReward(reward.target_size, reward.using(outer_params, precision))
        return PolicyGradientLoss(
            self._loss.head, fixed, self._loss.estimator, self._loss.temperature
        )

    def _behaviour(self) -> Tensor | None:
        """The model's outputs now, if the estimator clips ratios to them (PPO)."""
        estimator = self._loss.estimator
        if not (isinstance(estimator, ScoreFunction) and estimator.clip is not None):
            return None
        with torch.no_grad():
            outputs: Tensor = self._model(self._x)
        return outputs

    def _shuffled_batches(self, batch_size: int) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(self._x), generator=self._generator).to(self._x.device)
            # Batches are all of one size: what is left over waits for another epoch.
            for start in range(0, len(order) - batch_size + 1, batch_size):
                yield order[start : start + batch_size]
