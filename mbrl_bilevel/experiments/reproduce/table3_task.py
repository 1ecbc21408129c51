"""What a method of table 3 is given, what it returns, and the training that methods share."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mbrl_bilevel.config.table3 import Table3Config
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.heads import DiagonalGaussianHead, GaussianHead

Data = tuple[Tensor, Tensor]
"""Inputs `x [N, D_obs + D_act]` and targets `y [N, D_obs]`: next observations, all in raw units."""

TrainingLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(outputs [N, 2 D_obs], x, y) -> [N]`, or `[N, ...]`; the mean is minimised."""


@dataclass(frozen=True)
class Task:
    """What to learn from: all that a method may look at.

    Attributes:
        training: Of the inner problem; every update is on all of it.
        held_out: Of other episodes, for outer problems.
        config: Settings of the table.
        generator: Draws initial weights; every method of a seed gets it in the same state.
    """

    training: Data
    held_out: Data
    config: Table3Config
    generator: torch.Generator

    @property
    def target_size(self) -> int:
        """D_obs."""
        return self.training[1].shape[1]

    @property
    def target_covariance(self) -> Tensor:
        """Covariance of the training targets over all x, `[D_obs, D_obs]`, float64."""
        return self.training[1].double().mT.cov()

    @property
    def head(self) -> DiagonalGaussianHead:
        """Reads the outputs of `make_model`."""
        return DiagonalGaussianHead(self.target_size)


@dataclass(frozen=True)
class Fitted:
    """A predictive distribution that a method has learned.

    Attributes:
        outputs_fn: `x [N, D_obs + D_act] -> outputs [N, n]`, called without gradients.
        head: Reads the outputs as a Gaussian, diagonal or full.
        num_updates: That the model has taken.
    """

    outputs_fn: Callable[[Tensor], Tensor]
    head: GaussianHead
    num_updates: int

    @torch.no_grad()
    def judge(self, data: Data) -> tuple[float, float]:
        """Return the RMSE in raw units and the NLL per dimension in nats, means over `data`."""
        x, y = data
        outputs = self.outputs_fn(x)
        rmse = (self.head.mean(outputs) - y).square().mean().sqrt().item()
        nll = -self.head.log_prob(outputs, y).mean().item() / self.head.target_size
        return rmse, nll


def make_model(task: Task) -> nn.Sequential:
    """Return an untrained MLP (ReLU) from x to means and log-variances, `[N, 2 D_obs]`."""
    input_size = task.training[0].shape[1]
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise([input_size, *task.config.hidden_sizes]):
        layers += [_linear(fan_in, fan_out, task.generator), nn.ReLU()]
    last = _linear(task.config.hidden_sizes[-1], task.head.num_outputs, task.generator)
    return nn.Sequential(*layers, last)


class Descent:
    """Gradient descent on a model, `num_updates` steps in all, in as many calls as one likes.

    Args:
        model: Trained in place.
        config: The learning rate, and over which share of the steps it falls to zero at the end.
        optimizer: Of the model's parameters; Adam if None.
    """

    def __init__(
        self, model: nn.Module, config: Table3Config, optimizer: Optimizer | None = None
    ) -> None:
        self._model = model
        self._optimizer = optimizer or Adam(model.parameters(), lr=config.lr, fused=True)
        self._schedule = LambdaLR(self._optimizer, partial(_lr_share, config))

    def run(self, loss: TrainingLoss, data: Data, num_steps: int) -> None:
        """Take steps on the mean loss of all data.

        Raises:
            MBRLError: The loss is not finite.
        """
        x, y = data
        for _ in range(num_steps):
            self._optimizer.zero_grad()
            mean_loss = loss(self._model(x), x, y).mean()
            if not torch.isfinite(mean_loss):
                raise MBRLError(f"the training loss is {mean_loss.item()}; a lower lr may help")
            mean_loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()


def _lr_share(config: Table3Config, step: int) -> float:
    """Return one, then, over the last `cooldown` of the steps, a line down to zero."""
    left = max(0, config.num_updates - step)
    length = config.cooldown * config.num_updates
    return min(1.0, left / length) if length > 0 else 1.0


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a layer with PyTorch's usual initial weights, from a generator of its own."""
    # Without its own initialisation, which draws from the global generator.
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    assert isinstance(layer, nn.Linear)
    return layer
