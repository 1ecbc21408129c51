"""Weight decay as an outer parameter: one rate an observed input, by hypergradients."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mbrl_bilevel.config.schema import FIXED_DECAY

INITIAL_RATE = 1.0
LOWEST_RATE, HIGHEST_RATE = 1e-3, 30.0
"""At a learning rate of 1e-3 the highest takes the weights of an input away in some 30 updates, the
lowest leaves them alone."""
STEP_SIZE = 0.2
"""Of the logarithms, in an outer step."""
BETAS = (0.9, 0.99)
"""Of Adam, whose updates they follow: hypergradients of the single rates differ by orders."""


class LearnedDecay:
    """Decoupled weight decay with rates that held-out data decides about.

    An update of the inner problem takes the weights of group g from `theta_g` to
    `(1 - lr * rate_g) theta_g - lr * direction_g`. By the outer loss after it, the hypergradient of
    a rate through this update is `-lr * <theta_g, d L_out / d theta_g>`: a rate
    rises where smaller weights would have predicted the held-out data better. (The truncated
    hypergradient of one step: the first term of the Neumann series of the implicit one.)

    Groups are the weights that leave one observed dimension, in the first layer: an input that only
    serves to remember the training data is switched off by itself. Members share the rates, whose
    hypergradients are added up.

    The other layers keep a small rate. A fit begins with weights of another distribution of states,
    and as long as it is under way smaller ones often predict held-out data better: learned rates of
    layers rose fit by fit until the network could not follow the data any more.

    Actions are not asked about. An agent's recorded actions follow from the states they were taken
    in: held-out data of the same agent is predicted as well without them, by a model that no plan
    can be made with.

    As long as the task says of no error that it counts more than another, rates are small (`rest`).

    Args:
        weights: Of the layers, `[E, in, out]` each; not biases.
        num_observed: Inputs that have a rate of their own; those after them are actions.
    """

    def __init__(self, weights: Sequence[nn.Parameter], num_observed: int) -> None:
        self._first, *self._others = weights
        self._num_observed = num_observed
        num_actions = self._first.shape[1] - num_observed
        self._action_rates = self._first.new_full((num_actions,), FIXED_DECAY).detach()
        self.log_rates = self._first.new_full((num_observed,), math.log(INITIAL_RATE)).detach()
        self._mean = torch.zeros_like(self.log_rates)
        self._second_moment = torch.zeros_like(self.log_rates)
        self._num_steps = 0

    @property
    def input_rates(self) -> Tensor:
        """One rate an input, `[D_x]`."""
        return torch.cat([self.log_rates.exp(), self._action_rates])

    @torch.no_grad()
    def shrink(self, lr: float) -> None:
        """Take the decay's part of an update, at a learning rate."""
        self._first.mul_((1 - lr * self.input_rates)[:, None])
        for weight in self._others:
            weight.mul_(1 - lr * FIXED_DECAY)

    @torch.no_grad()
    def hypergradient(self, outer_gradient: Tensor) -> Tensor:
        """Return `d L_out / d log rate / lr` of one update, `[D_obs]`.

        Args:
            outer_gradient: `d L_out / d theta` of the first layer's weights, `[E, D_x, out]`.
        """
        products = (self._first * outer_gradient)[:, : self._num_observed].sum(dim=(0, 2))
        return -self.log_rates.exp() * products

    @torch.no_grad()
    def rest(self) -> bool:
        """Leave the inputs alone, unless rates have been learned already; return whether they are.

        Inputs of a recorded trajectory replace each other: all errors alike, a cart-pole's held-out
        data was predicted as well without the pole's angular velocity as without the cart's.
        """
        if self._num_steps == 0:
            self.log_rates.fill_(math.log(FIXED_DECAY))
        return self._num_steps == 0

    @torch.no_grad()
    def outer_step(self, outer_gradient: Tensor) -> dict[str, float]:
        """Let the rates follow their hypergradient; return what to log."""
        if self._num_steps == 0:  # they may be at rest
            self.log_rates.fill_(math.log(INITIAL_RATE))
        gradient = self.hypergradient(outer_gradient)
        if not gradient.isfinite().all():
            return {}  # training diverges: the trainer's own checks say so
        self._num_steps += 1
        self._mean.lerp_(gradient, 1 - BETAS[0])
        self._second_moment.lerp_(gradient.square(), 1 - BETAS[1])
        mean = self._mean / (1 - BETAS[0] ** self._num_steps)
        scale = (self._second_moment / (1 - BETAS[1] ** self._num_steps)).sqrt()
        self.log_rates.sub_(STEP_SIZE * mean / scale.clamp_min(torch.finfo(scale.dtype).tiny))
        self.log_rates.clamp_(math.log(LOWEST_RATE), math.log(HIGHEST_RATE))
        return {
            "bilevel/decay_hypergradient_norm": gradient.norm().item(),
            "bilevel/decay_min": self.log_rates.min().exp().item(),
            "bilevel/decay_max": self.log_rates.max().exp().item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that learning goes on from."""
        return {
            "log_rates": self.log_rates,
            "mean": self._mean,
            "second_moment": self._second_moment,
            "num_steps": self._num_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.log_rates.copy_(state["log_rates"])
        self._mean.copy_(state["mean"])
        self._second_moment.copy_(state["second_moment"])
        self._num_steps = state["num_steps"]
