"""The bilevel objective with a constant diagonal reward, learned so that its optimum is likely."""

import math

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.constant_reward import ConstantRewardBilevel
from mbrl_bilevel.bilevel.policy_gradient import PolicyGradientLoss
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.objectives import residual_second_moment
from mbrl_bilevel.objectives.base import LOG_2PI
from mbrl_bilevel.types import Gaussian


class Bilevel(ConstantRewardBilevel):
    """Entropy-regularised policy gradient inside, held-out likelihood outside.

    Inner problem (Benechehab et al. 2025, section 4.1), with the closed-form expectation of the
    Mahalanobis reward in place of samples (the `analytic` estimator), per sample:

        L_in = (mu - y)^T U (mu - y) + tr(U Sigma) - temperature * H(N(mu, Sigma))

    Its solution is `mu* = E[y|x]`, `Sigma* = (temperature / 2) U^{-1}`. The network learns the
    mean by gradient descent; the covariance is read off in closed form. Outer problem: the
    negative log-likelihood of held-out data at that solution, minimised over U by the
    hypergradient (see `hypergradient`). All of it separately for each of the E members.

    Errors beyond `config.tails` typical ones count linearly (see `within_tails`), in training and
    held out. The mean is then Huber's location, E[y|x] where the noise is symmetric, and the
    covariance that of what is typical: a model is not uncertain everywhere because of a few
    contacts.

    Args:
        ensemble_size: E.
        target_size: D.
        config: Reward (scalar or diagonal), temperature and steps.

    Raises:
        ConfigError: The reward is of another shape.
    """

    def __init__(self, ensemble_size: int, target_size: int, config: BilevelConfig) -> None:
        if config.reward not in ("scalar", "diagonal"):
            raise ConfigError(f"reward={config.reward!r} is not constant and diagonal or scalar")
        super().__init__(ensemble_size, target_size, config, config.reward)

    @property
    def solution_log_var(self) -> Tensor:
        """`log diag(Sigma*)`, `[E, D]`: the inner problem's covariance for the current reward."""
        return math.log(self.temperature / 2) - self.reward.log_diagonal.detach()

    def inner_loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return `L_in` per sample, `[E, N]`, at any Gaussian `[E, N, D]`; differentiable."""
        head = DiagonalGaussianHead(self.reward.target_size)
        inner_loss = PolicyGradientLoss(head, self.reward, Analytic(), self.temperature)
        outputs = torch.cat([prediction.mean, prediction.log_var], dim=-1)
        return inner_loss(outputs, {}, None, target)

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return the inner objective with the covariance at its solution, `[E]`.

        What is left depends on the mean alone. The natural-gradient exponent k preconditions the
        mean's gradient by `(2 Sigma* / temperature)^k`: 0 is the plain gradient, 1 weights all
        errors alike. The fixed point stays where it is, but with 0 the dimensions that are already
        predicted well take over, and those that are not are never learned.
        """
        error = prediction.mean - self._within_tails(prediction, target)
        return (error.square() * self._weight()).mean(dim=(1, 2))

    @torch.no_grad()
    def differentiate(
        self, prediction: Gaussian, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        error = prediction.mean - self._within_tails(prediction, target)
        weighted = self._weight() * error
        gradient = weighted * (2 / error[0].numel())
        return weighted.mul_(error).mean(dim=(1, 2)), gradient, None

    def score(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return the held-out NLL per dimension with the reward re-solved for these means, `[E]`.

        At `U* = (temperature / 2) S^{-1}` the NLL is `(log(2 pi s^2) + 1) / 2` in each dimension.
        """
        second_moment = self._second_moment(prediction, target)
        if self.reward.structure == "scalar":
            second_moment = second_moment.mean(dim=-1, keepdim=True)
        return 0.5 * (LOG_2PI + 1 + (self.task.weights * second_moment.log()).mean(dim=-1))

    def hypergradient(self, second_moment: Tensor) -> tuple[Tensor, float]:
        """Return `d L_out / d log u`, shaped like the reward's `log_u`, and the solve's residual.

        The implicit function theorem in the model's outputs (mu, log_var), where the inner
        problem separates over samples and dimensions. At its solution `d^2 L_in / d log_var^2`
        and `d^2 L_in / (d log u d log_var)` both equal `u exp(log_var) = temperature / 2`, and
        `d mu* / d log u = 0`; so each dimension gets `s^2 u / temperature - 1/2`, and a scalar u
        their sum.

        Args:
            second_moment: Held-out mean squared residuals s^2, `[E, D]`.
        """
        log_var = self.solution_log_var
        outer_gradient = 0.5 * (1 - second_moment * (-log_var).exp())  # of the NLL, in log_var
        curvature = cross = (self.reward.log_diagonal.detach() + log_var).exp()
        adjoint = outer_gradient / curvature
        misfit = (curvature * adjoint - outer_gradient).norm()
        gradient = -cross * adjoint
        if self.reward.structure == "scalar":
            gradient = gradient.sum(dim=-1, keepdim=True)
        scale = outer_gradient.norm().clamp_min(torch.finfo(misfit.dtype).tiny)
        return gradient, (misfit / scale).item()

    @torch.no_grad()
    def _weight(self) -> Tensor:
        """What squared errors count, `[E, 1, D]`."""
        weight = ((1 - self.natural_gradient) * self.reward.log_diagonal).exp()[:, None, :]
        weight = weight * self.task.weights
        # A common factor changes no optimum; this one keeps the scale of the loss at one.
        return weight / weight.mean(dim=-1, keepdim=True)

    def _second_moment(self, prediction: Gaussian, target: Tensor) -> Tensor:
        return residual_second_moment(prediction, self._within_tails(prediction, target))

    def _step(self, second_moment: Tensor, lr: float) -> dict[str, float]:
        gradient, residual = self.hypergradient(second_moment)
        # The outer curvature in log u is s^2 u / temperature = gradient + n / 2 over n summed
        # dimensions; n / 2 is its value at the optimum. With the floor, a step never overshoots
        # by more than one unit of log u, and it is Newton's near the optimum.
        half_n = 0.5 * self.reward.target_size / gradient.shape[-1]
        self.reward.log_u.sub_(lr * gradient / (half_n + gradient.clamp_min(0.0)))
        nll = (
            0.5 * (LOG_2PI + self.solution_log_var)
            + 0.5 * second_moment * (-self.solution_log_var).exp()
        )
        return {
            "bilevel/outer_loss": nll.mean().item(),
            "bilevel/hypergradient_norm": gradient.norm().item(),
            "bilevel/solver_residual": residual,
            "bilevel/u_mean": self.reward.log_diagonal.exp().mean().item(),
        }
