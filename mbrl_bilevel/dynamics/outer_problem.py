"""The outer problem of a fit: what held-out data decides about while the network is trained."""

import math
from typing import Any

import torch
from torch import Tensor

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.config.schema import FIXED_DECAY
from mbrl_bilevel.dynamics.learned_decay import LearnedDecay
from mbrl_bilevel.dynamics.model import DynamicsModel
from mbrl_bilevel.dynamics.relevance import Relevance
from mbrl_bilevel.types import Gaussian, TaskFunctions

OUTER_ROWS = 512
"""Held-out rows of an outer step, at most; solving the outer problem in the end takes all."""
OUTER_EVERY = 10
"""Updates between two outer steps, of objectives that do not say."""


class OuterProblem:
    """Takes outer steps: on the objective's reward, what the task asks for, and the weight decay.

    Args:
        model: On its device.
        config: Whether the weight decay is learned.
        seed: Of the steps that the return is looked at from.
        task: Says which dimensions matter, to objectives that ask.

    Attributes:
        fixed_decay: The optimiser's part of the weight decay; 0 where it is learned.
    """

    def __init__(
        self, model: DynamicsModel, config: ModelConfig, seed: int, task: TaskFunctions
    ) -> None:
        self._model = model
        self._seed = seed
        horizon = model.objective.return_horizon
        self.relevance = Relevance(model, task, horizon) if horizon is not None else None
        rate = config.weight_decay
        # As long as the task is silent. Who asks for learned rates gets them.
        self._may_rest = rate == "auto"
        if rate == "auto":
            rate = FIXED_DECAY if horizon is None else "learned"
        self.decay = (
            LearnedDecay(list(model.network.weights), model.obs_size) if rate == "learned" else None
        )
        self.fixed_decay = 0.0 if rate == "learned" else float(rate)
        self.every: int | None = model.objective.outer_every
        if self.every is None and (self.decay is not None or self.relevance is not None):
            self.every = OUTER_EVERY

    def begin(self, inputs: Tensor, next_obs: Tensor, x_held: Tensor, y_held: Tensor) -> None:
        """Prepare for a fit.

        Args:
            inputs: Raw training inputs `[N, D_x]`, in the order of recording.
            next_obs: Where they led to, `[N, D_obs]`.
            x_held, y_held: Normalised held-out data, `[N_out, D_x]` and `[N_out, D]`.
        """
        self._inputs, self._x_held, self._y_held = inputs, x_held, y_held
        self._generator = torch.Generator().manual_seed(self._seed)
        if self.relevance is not None:
            self.relevance.begin(inputs, next_obs)

    def step(self, number: int) -> dict[str, float]:
        """Take the outer step of this number, from one, in the fit; return what to log."""
        model, objective, decay = self._model, self._model.objective, self.decay
        if self.relevance is not None:
            share = self.relevance.look(self._inputs, self._generator)
            if share is not None:
                objective.set_relevance(share)
            elif decay is not None and self._may_rest and decay.rest():
                decay = None
        rows = outer_rows(number, len(self._x_held))
        x, y = self._x_held[rows], self._y_held[rows]
        x = x.expand(model.network.ensemble_size, -1, -1)
        if decay is None:
            with torch.no_grad():
                return objective.outer_step(model.network(x), y)
        with torch.enable_grad():
            prediction: Gaussian = model.network(x)
            loss = objective.score(prediction, y).sum()
            (gradient,) = torch.autograd.grad(loss, model.network.weights[0])
        metrics = decay.outer_step(gradient)
        detached = Gaussian(prediction.mean.detach(), prediction.log_var.detach())
        return metrics | objective.outer_step(detached, y)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later fits go on from; the reward is the model's."""
        return {"decay": self.decay.state_dict() if self.decay is not None else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if self.decay is not None:
            self.decay.load_state_dict(state["decay"])


def outer_rows(outer_step: int, num_held_out: int) -> slice:
    """Return which held-out rows an outer step takes: every k-th, another start each time.

    Nothing is drawn for them: objectives with and without outer steps see the same batches.
    """
    stride = math.ceil(num_held_out / OUTER_ROWS)
    return slice(outer_step % stride, None, stride)
