"""Gaussian heads, with a diagonal or a full covariance."""

from abc import abstractmethod

import torch
from torch import Tensor

from mbrl_bilevel.heads.base import Head, check_real_targets, check_size
from mbrl_bilevel.objectives.base import LOG_2PI
from mbrl_bilevel.rewards import Precision


class GaussianHead(Head):
    """`N(mean, Sigma)` over D dimensions; the first D outputs are the mean."""

    def __init__(self, target_size: int) -> None:
        self.target_size = check_size(self.name, "target_size", target_size, 1)

    def mean(self, z: Tensor) -> Tensor:
        """Return the mean, `[*S, D]`."""
        return z[..., : self.target_size]

    @abstractmethod
    def log_det(self, z: Tensor) -> Tensor:
        """Return `log det Sigma`, `[*S]`."""

    @abstractmethod
    def trace(self, z: Tensor, precision: Precision) -> Tensor:
        """Return `tr(U Sigma)`, `[*S]`, for matrices U that broadcast with `[*S, D, D]`."""

    @abstractmethod
    def outputs(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """Return the z `[*S, n]` of a mean `[*S, D]` and a covariance `[*S, D, D]`."""

    @abstractmethod
    def _whiten(self, z: Tensor, error: Tensor) -> Tensor:
        """Return `Sigma^{-1/2} error`, `[*S, D]`."""

    def log_prob(self, z: Tensor, y: Tensor) -> Tensor:
        squared_distance = self._whiten(z, y - self.mean(z)).square().sum(dim=-1)
        return -0.5 * (self.target_size * LOG_2PI + self.log_det(z) + squared_distance)

    def entropy(self, z: Tensor) -> Tensor:
        return 0.5 * (self.target_size * (1 + LOG_2PI) + self.log_det(z))

    def noise(self, z: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
        shape = (num_samples, *z.shape[:-1], self.target_size)
        return torch.randn(shape, generator=generator, dtype=z.dtype).to(z.device)

    def check_targets(self, y: Tensor) -> None:
        check_real_targets(self.name, self.target_size, y)


class DiagonalGaussianHead(GaussianHead):
    """D means, then D log-variances: n = 2 D.

    Args:
        target_size: D.
    """

    name = "diagonal"

    def __init__(self, target_size: int) -> None:
        super().__init__(target_size)
        self.num_outputs = 2 * target_size

    def log_var(self, z: Tensor) -> Tensor:
        """Return the logarithm of the variances, `[*S, D]`."""
        return z[..., self.target_size :]

    def log_det(self, z: Tensor) -> Tensor:
        return self.log_var(z).sum(dim=-1)

    def trace(self, z: Tensor, precision: Precision) -> Tensor:
        return (precision.diagonal() * self.log_var(z).exp()).sum(dim=-1)

    def outputs(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """See `GaussianHead.outputs`; the projection that the inner problem makes.

        Its optimum for a precision P is the diagonal `1 / P_ii`, not the marginal variance.
        """
        precision_diagonal = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
        return torch.cat([mean, -precision_diagonal.log().expand_as(mean)], dim=-1)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        return self.mean(z) + (0.5 * self.log_var(z)).exp() * noise

    def precondition(self, z: Tensor, exponent: float) -> Tensor:
        """See `Head.precondition`; the Fisher metric is `1 / var` for a mean, 1/2 for a log-var."""
        if exponent == 0 or not z.requires_grad:
            return z
        log_var = self.log_var(z.detach())
        metric = torch.cat(
            [(exponent * log_var).exp(), torch.full_like(log_var, 2.0**exponent)], -1
        )
        preconditioned = z.view_as(z)
        preconditioned.register_hook(lambda gradient: gradient * metric)  # type: ignore[no-untyped-call]
        return preconditioned

    def _whiten(self, z: Tensor, error: Tensor) -> Tensor:
        return (-0.5 * self.log_var(z)).exp() * error


class FullGaussianHead(GaussianHead):
    """D means, D log-diagonals and D (D - 1) / 2 other entries of a Cholesky factor of Sigma.

    The entries below the diagonal are relative to their row's diagonal one: `L = diag(d) T` with
    `T` unit lower triangular, so that scaling a dimension changes its d alone.

    Args:
        target_size: D.
    """

    name = "full"

    def __init__(self, target_size: int) -> None:
        super().__init__(target_size)
        self.num_outputs = 2 * target_size + target_size * (target_size - 1) // 2

    def log_diagonal(self, z: Tensor) -> Tensor:
        """Return the logarithm of the factor's diagonal, `[*S, D]`."""
        return z[..., self.target_size : 2 * self.target_size]

    def scale_tril(self, z: Tensor) -> Tensor:
        """Return the lower Cholesky factor of Sigma, `[*S, D, D]`."""
        size = self.target_size
        rows, columns = torch.tril_indices(size, size, offset=-1, device=z.device)
        unit = torch.eye(size, dtype=z.dtype, device=z.device).repeat(*z.shape[:-1], 1, 1)
        unit[..., rows, columns] = z[..., 2 * size :]
        return self.log_diagonal(z).exp()[..., None] * unit

    def log_det(self, z: Tensor) -> Tensor:
        return 2 * self.log_diagonal(z).sum(dim=-1)

    def trace(self, z: Tensor, precision: Precision) -> Tensor:
        # Sigma = L L^T, so its trace with U is the sum of c^T U c over L's columns c.
        return precision.quadratic(self.scale_tril(z).movedim(-1, 0)).sum(dim=0)

    def outputs(self, mean: Tensor, covariance: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(covariance).expand(*mean.shape, self.target_size)
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        rows, columns = torch.tril_indices(
            self.target_size, self.target_size, offset=-1, device=mean.device
        )
        lower = (factor / diagonal[..., None])[..., rows, columns]
        return torch.cat([mean, diagonal.log(), lower], dim=-1)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        return self.mean(z) + (self.scale_tril(z) @ noise[..., None])[..., 0]

    def precondition(self, z: Tensor, exponent: float) -> Tensor:
        """See `Head.precondition`: `Sigma^exponent` for the mean; the factor's part stays as is."""
        if exponent == 0 or not z.requires_grad:
            return z
        factor = self.scale_tril(z.detach())
        eigenvalues, vectors = torch.linalg.eigh(factor @ factor.mT)
        metric = (vectors * eigenvalues[..., None, :] ** exponent) @ vectors.mT
        size = self.target_size

        def multiply(gradient: Tensor) -> Tensor:
            mean_part = (metric @ gradient[..., :size, None])[..., 0]
            return torch.cat([mean_part, gradient[..., size:]], dim=-1)

        preconditioned = z.view_as(z)
        preconditioned.register_hook(multiply)  # type: ignore[no-untyped-call]
        return preconditioned

    def _whiten(self, z: Tensor, error: Tensor) -> Tensor:
        factor = self.scale_tril(z)
        whitened: Tensor = torch.linalg.solve_triangular(factor, error[..., None], upper=False)
        return whitened[..., 0]
