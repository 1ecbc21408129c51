"""The bilevel objective with a constant full reward: it learns how errors go together."""

import math

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.constant_reward import ConstantRewardBilevel
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.objectives import quadratic_loss, residual_moment_matrix
from mbrl_bilevel.objectives.base import LOG_2PI
from mbrl_bilevel.rewards.precision import FullPrecision
from mbrl_bilevel.types import Gaussian


class FullBilevel(ConstantRewardBilevel):
    """As `Bilevel`, with a full matrix U: `Sigma* = (temperature / 2) U^{-1}` has correlations.

    The outer problem is the negative log-likelihood of held-out data under `N(mu, Sigma*)`; it is
    solved by `U* = (temperature / 2) S^{-1}`, S the second moment of the held-out residuals.

    Among diagonal covariances the inner problem is solved by `sigma_i^2 = temperature / (2 U_ii)`,
    what a dimension varies by once the others are known: less than its variance where errors are
    correlated. `solution_log_var` is that, `solution_covariance` is `Sigma*`.

    Args:
        ensemble_size: E.
        target_size: D.
        config: Temperature and steps.
    """

    def __init__(self, ensemble_size: int, target_size: int, config: BilevelConfig) -> None:
        super().__init__(ensemble_size, target_size, config, "full")

    @property
    def solution_log_var(self) -> Tensor:
        """`log(temperature / 2) - log diag U`, `[E, D]`."""
        log_diagonal = self.reward.precision().diagonal().detach()[:, 0].log()
        return math.log(self.temperature / 2) - log_diagonal

    @property
    def solution_covariance(self) -> Tensor:
        """`Sigma* = (temperature / 2) U^{-1}`, `[E, D, D]`."""
        return self._covariance().to(self.reward.log_root.dtype)

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return the inner objective with the covariance at its solution, `[E]`.

        The natural-gradient exponent k preconditions the mean's gradient by
        `(2 Sigma* / temperature)^k`: errors are weighted by `U^(1 - k)`.
        """
        with torch.no_grad():
            _, singular_values, vectors = torch.linalg.svd(self._root())
            power = singular_values ** (2 * (1 - self.natural_gradient))
            weight = vectors.mT @ (power[..., None] * vectors)
            scale = self.task.weights.double().sqrt()
            weight = scale[:, None] * weight * scale
            # A common factor changes no optimum; this one keeps the scale of the loss at one.
            weight = weight / weight.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[:, None, None]
        target = self._within_tails(prediction, target)
        return quadratic_loss(prediction, target, weight.to(prediction.mean.dtype))

    def score(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return the held-out NLL per dimension with the reward re-solved for these means, `[E]`.

        At `U* = (temperature / 2) S^{-1}` the NLL is `(D log(2 pi) + log det S + D) / 2`. What a
        dimension counts more or less than others for the task it does by its own variance.
        """
        second_moment = self._second_moment(prediction, target)
        log_det: Tensor = torch.linalg.slogdet(second_moment).logabsdet
        variances = second_moment.diagonal(dim1=-2, dim2=-1)
        log_det = log_det + ((self.task.weights.double() - 1) * variances.log()).sum(dim=-1)
        nll = 0.5 * (LOG_2PI + 1 + log_det / self.reward.target_size)
        return nll.to(prediction.mean.dtype)

    def hypergradient(self, second_moment: Tensor) -> tuple[Tensor, float]:
        """Return `d L_out / dX`, `[E, D, D]`, and the relative residual of the solve.

        X is the logarithm of U relative to where it is: with the root `U = R^T R` it moves to
        `R^T exp(X) R`. The logarithm Y of Sigma is relative to `Sigma* = K K^T`, to
        `K exp(Y) K^T`. By the implicit function theorem in (mu, Y), where the inner problem
        separates over samples: `d^2 L_in / dY^2` and `d^2 L_in / dX dY` are both
        `R Sigma* R^T = (temperature / 2) I`, and `d mu* / dX = 0`. What is left is
        `d L_out / dX = (M - I) / 2`, M the whitened second moment `(2 / temperature) R S R^T`.

        Args:
            second_moment: Of the held-out residuals, S, `[E, D, D]`.
        """
        root = self._root()
        identity = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        whitened = 2 / self.temperature * root @ second_moment.double() @ root.mT
        outer_gradient = 0.5 * (identity - whitened)  # of the NLL, in Y
        curvature = cross = root @ self._covariance() @ root.mT
        adjoint = outer_gradient / (0.5 * self.temperature)
        misfit = (_symmetric_product(curvature, adjoint) - outer_gradient).norm()
        gradient = -_symmetric_product(cross, adjoint)
        scale = outer_gradient.norm().clamp_min(torch.finfo(misfit.dtype).tiny)
        return gradient, (misfit / scale).item()

    def _second_moment(self, prediction: Gaussian, target: Tensor) -> Tensor:
        return residual_moment_matrix(prediction, self._within_tails(prediction, target))

    def _step(self, second_moment: Tensor, lr: float) -> dict[str, float]:
        gradient, residual = self.hypergradient(second_moment)
        # A member that diverged keeps its reward: its scores tell.
        finite = gradient.isfinite().all(dim=-1).all(dim=-1)[:, None, None]
        eigenvalues, vectors = torch.linalg.eigh(gradient.where(finite, 0.0))
        # But for rounding an eigenvalue is at least -1/2. Along each eigenvector this is the step
        # of `Bilevel`: the outer curvature is gradient + 1/2, and 1/2 at the optimum.
        eigenvalues = eigenvalues.clamp_min(-0.5)
        step = -lr * eigenvalues / (0.5 + eigenvalues.clamp_min(0.0))
        self._set_root((0.5 * step).exp()[..., None] * (vectors.mT @ self._root()))
        return {
            "bilevel/outer_loss": self._outer_loss(second_moment),
            "bilevel/hypergradient_norm": gradient.norm().item(),
            "bilevel/solver_residual": residual,
            "bilevel/u_mean": self.reward.precision().diagonal().mean().item(),
        }

    def _outer_loss(self, second_moment: Tensor) -> float:
        """NLL per dimension under `N(mu, Sigma*)`, averaged over members."""
        precision = 2 / self.temperature * self._matrix()
        distance = (precision * second_moment).sum(dim=(-2, -1))
        per_dim = (distance - torch.linalg.slogdet(precision).logabsdet) / len(precision[0])
        return float(0.5 * (LOG_2PI + per_dim.mean()))

    def _root(self) -> Tensor:
        """Upper triangular R with `U = R^T R`, `[E, D, D]`, in float64."""
        log_root, upper = self.reward.log_root.detach(), self.reward.upper.detach()
        return FullPrecision(log_root.double(), upper.double()).root()

    def _set_root(self, root: Tensor) -> None:
        """Set `U = R^T R` for any square R, `[E, D, D]`."""
        triangular = torch.linalg.qr(root, mode="r").R
        diagonal = triangular.diagonal(dim1=-2, dim2=-1)
        size = root.shape[-1]
        rows, columns = torch.triu_indices(size, size, offset=1, device=root.device)
        self.reward.log_root.copy_(diagonal.abs().log())
        self.reward.upper.copy_((triangular / diagonal[..., None])[..., rows, columns])

    def _matrix(self) -> Tensor:
        root = self._root()
        return root.mT @ root

    def _covariance(self) -> Tensor:
        # From the root: inverting U itself would square its condition number.
        root = self._root()
        identity = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        inverse_root: Tensor = torch.linalg.solve_triangular(root, identity, upper=True)
        return 0.5 * self.temperature * inverse_root @ inverse_root.mT


def _symmetric_product(a: Tensor, b: Tensor) -> Tensor:
    """Return `(A B + B A) / 2` of symmetric matrices."""
    product = a @ b
    return 0.5 * (product + product.mT)
