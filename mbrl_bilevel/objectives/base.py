"""What a dynamics model is trained to do."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from mbrl_bilevel.types import Gaussian

LOG_2PI = math.log(2 * math.pi)


def gaussian_nll(prediction: Gaussian, target: Tensor) -> Tensor:
    """Return `-log N(target; mean, exp(log_var))` per dimension, `[E, N, D]`, in nats."""
    squared_error = (prediction.mean - target).square()
    return 0.5 * (LOG_2PI + prediction.log_var + squared_error * (-prediction.log_var).exp())


def differentiate_nll(
    prediction: Gaussian, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `Objective.differentiate` of the NLL, each term times a weight that is held fixed.

    With the error e and the variance v, a term is `(log 2 pi v + e^2 / v) / 2`: its derivatives are
    `e / v` in the mean and `(1 - e^2 / v) / 2` in log v.

    Args:
        prediction: `[E, N, D]`.
        target: `[E, N, D]` or `[N, D]`.
        weight: `[E, N, D]`; None: ones.
    """
    error = prediction.mean - target
    mean_gradient = error * (-prediction.log_var).exp()
    misfit = mean_gradient * error
    terms = prediction.log_var + misfit
    terms += LOG_2PI
    log_var_gradient = misfit.neg_().add_(1.0)
    if weight is not None:
        terms *= weight
        mean_gradient *= weight
        log_var_gradient *= weight
    count = error.shape[1] * error.shape[2]
    losses = 0.5 * terms.mean(dim=(1, 2))
    return losses, mean_gradient.div_(count), log_var_gradient.mul_(0.5 / count)


class Objective(nn.Module):
    """A loss, and what goes with it: a criterion for early stopping, outer steps, a covariance.

    Members never share a loss: every method works on each of the E members by itself. Shapes:
    predictions `[E, N, D]`, targets `[E, N, D]` (or `[N, D]`, the same for all members).
    """

    name: ClassVar[str]
    outer_every: int | None = None
    """Inner updates between two outer steps; None: none are taken."""
    return_horizon: int | None = None
    """Steps over which the return tells which dimensions matter; None: all matter alike."""
    log_var_head_is_reward: bool = False
    """Whether the network's log-variance head is solved for on held-out data in the end."""

    @property
    def relevance(self) -> Tensor | None:
        """Each dimension's share in the error of the return, `[D]`; None: it is not asked for."""
        return None

    def set_relevance(self, share: Tensor) -> None:
        """Take over each dimension's share in the error of the return, `[D]`, which add up to one.

        Only with a `return_horizon`.
        """
        raise NotImplementedError

    def prepare(self, target: Tensor) -> None:
        """Take what is needed from all normalised training targets `[N, D]`, before training."""
        del target

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return the training loss of each member, `[E]`: a mean over samples and dimensions."""
        raise NotImplementedError

    def differentiate(
        self, prediction: Gaussian, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the losses `[E]`, and their gradients in mean and log-variance, `[E, N, D]` both.

        None stands for a loss that does not depend on the log-variance. Here by automatic
        differentiation of `loss`; where there is a closed form it is faster.
        """
        with torch.enable_grad():
            mean = prediction.mean.detach().requires_grad_()
            log_var = prediction.log_var.detach().requires_grad_()
            losses = self.loss(Gaussian(mean, log_var), target)
            mean_gradient, log_var_gradient = torch.autograd.grad(
                losses.sum(), [mean, log_var], allow_unused=True
            )
        if mean_gradient is None:
            mean_gradient = torch.zeros_like(mean)
        return losses.detach(), mean_gradient, log_var_gradient

    @property
    def solution_log_var(self) -> Tensor | None:
        """Logarithm of the variance that solves the inner problem, `[E, D]`, where it is known.

        None: the network's own log-variance is the answer.
        """
        return None

    @property
    def solution_covariance(self) -> Tensor | None:
        """Covariance that solves the inner problem, `[E, D, D]`, where it is not diagonal.

        `solution_log_var` is then the solution among diagonal covariances.
        """
        return None

    def predictive(self, prediction: Gaussian) -> Gaussian:
        """Return the distribution that the trained model stands for."""
        log_var = self.solution_log_var
        if log_var is None:
            return prediction
        return Gaussian(prediction.mean, log_var[:, None, :].expand_as(prediction.mean))

    def score(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return the held-out criterion of each member, `[E]`; lower is better."""
        return gaussian_nll(self.predictive(prediction), target).mean(dim=(1, 2))

    def outer_step(self, prediction: Gaussian, target: Tensor) -> dict[str, float]:
        """Improve the outer parameters on held-out data; return what to log."""
        del prediction, target
        return {}

    def solve_outer(self, prediction: Gaussian, target: Tensor) -> dict[str, float]:
        """Solve for whatever is learned on held-out data, the network's mean frozen."""
        del prediction, target
        return {}
