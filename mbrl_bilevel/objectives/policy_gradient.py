"""The policy gradient on a reward whose matrix is not learned."""

import math
from typing import Literal

import torch
from torch import Tensor

from mbrl_bilevel.objectives.base import LOG_2PI, Objective
from mbrl_bilevel.objectives.quadratic import floor_eigenvalues, quadratic_loss
from mbrl_bilevel.types import Gaussian

Structure = Literal["identity", "trace", "full"]

MIN_TARGET_VARIANCE = 1e-4
"""Least eigenvalue of the targets' covariance, in normalised units.

Targets that are constant, or combinations of others, would otherwise get infinite weight.
"""


class PolicyGradient(Objective):
    """Entropy-regularised policy gradient on `-(y_hat - y)^T U (y_hat - y)` with U fixed.

    The baselines of Benechehab et al. (2025), section 5, with the closed-form expectation of the
    reward in place of samples. Per sample:

        L_in = (mu - y)^T U (mu - y) + tr(U Sigma) - temperature * H(N(mu, Sigma))

    Its solution is `mu* = E[y|x]`, `Sigma* = (temperature / 2) U^{-1}`: the network learns the
    mean, the covariance is read off. Among diagonal covariances the solution is
    `sigma_i^2 = temperature / (2 U_ii)`, where the derivative `U_ii - temperature / (2 sigma_i^2)`
    of `tr(U Sigma) - temperature * H` vanishes.

    U is set by `prepare`, from the covariance Cov(y) of the training targets over all x; before,
    as if it were I. The same for all members.

    - identity: `U = I`
    - trace: `U = (temperature D / (2 tr Cov(y))) I`
    - full: `U = (temperature / 2) Cov(y)^{-1}`

    Args:
        ensemble_size: E.
        target_size: D.
        structure: Which of them.
        temperature: Weight of the entropy.
    """

    name = "pg"
    matrix: Tensor

    def __init__(
        self, ensemble_size: int, target_size: int, structure: Structure, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.ensemble_size = ensemble_size
        self.structure = structure
        self.temperature = temperature
        self.register_buffer("matrix", self._matrix(torch.eye(target_size)))

    @torch.no_grad()
    def prepare(self, target: Tensor) -> None:
        wide = target.double()
        deviation = wide - wide.mean(dim=0)
        self.matrix.copy_(self._matrix(deviation.mT @ deviation / len(wide)))

    @property
    def solution_log_var(self) -> Tensor:
        """`log(temperature / 2) - log diag U`, `[E, D]`."""
        log_var = math.log(self.temperature / 2) - self.matrix.diagonal().log()
        return log_var.expand(self.ensemble_size, -1)

    @property
    def solution_covariance(self) -> Tensor | None:
        """`(temperature / 2) U^{-1}`, `[E, D, D]`, of a full U."""
        if self.structure != "full":
            return None
        covariance: Tensor = 0.5 * self.temperature * torch.linalg.inv(self.matrix.double())
        return covariance.to(self.matrix.dtype).expand(self.ensemble_size, -1, -1)

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return what depends on the mean, `(mu - y)^T U (mu - y) / D`, averaged, `[E]`."""
        return quadratic_loss(prediction, target, self.matrix)

    def score(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return the NLL per dimension under `N(mu, Sigma*)`, `[E]`.

        It is the loss over the temperature, but for a constant.
        """
        log_det = torch.linalg.slogdet(2 * self.matrix.double() / self.temperature).logabsdet
        constant = 0.5 * (LOG_2PI - float(log_det) / len(self.matrix))
        return constant + self.loss(prediction, target) / self.temperature

    def _matrix(self, covariance: Tensor) -> Tensor:
        """U for a covariance of targets, `[D, D]`."""
        identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        if self.structure == "identity":
            return identity
        covariance = floor_eigenvalues(covariance, MIN_TARGET_VARIANCE)
        if self.structure == "trace":
            return identity * (0.5 * self.temperature / covariance.diagonal().mean())
        inverse: Tensor = torch.linalg.inv(covariance)
        return 0.5 * self.temperature * inverse
