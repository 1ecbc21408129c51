"""What changes while a `BilevelTrainer` trains."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mbrl_bilevel.bilevel.problem import ParamDict


class OuterUpdate:
    """Steps of an optimiser that is kept, by gradients that are handed in.

    Args:
        params: By name; updated in place. There may be none.
        optimizer_fn: Makes the optimiser.
        schedule_fn: Makes its learning-rate schedule; None: none.
    """

    def __init__(
        self,
        params: dict[str, nn.Parameter],
        optimizer_fn: Callable[[list[nn.Parameter]], Optimizer],
        schedule_fn: Callable[[Optimizer], LRScheduler] | None,
    ) -> None:
        self._params = params
        self._optimizer: Optimizer | None = None
        self._schedule: LRScheduler | None = None
        if params:
            self._optimizer = optimizer_fn(list(params.values()))
            if schedule_fn is not None:
                self._schedule = schedule_fn(self._optimizer)

    def step(self, grad: ParamDict) -> None:
        """Take a step along `-grad`."""
        if self._optimizer is None:
            return
        for name, parameter in self._params.items():
            parameter.grad = grad[name].detach()
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._schedule is not None:
            self._schedule.step()


class Best:
    """The values of some parameters when a loss was lowest.

    Attributes:
        step: When that was; -1 before the first offer.
        loss: How low.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.step = -1
        self.loss = math.inf
        self._params = params
        self._values: list[Tensor] = []

    def offer(self, step: int, loss: float) -> None:
        """Remember the parameters' values now if the loss is the lowest so far."""
        if loss < self.loss:
            self._values = [parameter.detach().clone() for parameter in self._params]
            self.step, self.loss = step, loss

    @torch.no_grad()
    def restore(self) -> None:
        """Put the remembered values back; none, if nothing was offered."""
        for parameter, value in zip(self._params, self._values, strict=False):
            parameter.copy_(value)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put all of a model into evaluation mode (no dropout, say), and back as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
