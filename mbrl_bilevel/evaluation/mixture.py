"""The predictive distribution of an ensemble: an equally weighted mixture of Gaussians."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_bilevel.objectives.base import LOG_2PI

_QUANTILE_TOLERANCE = 1e-8  # in standard deviations
_ROWS_AT_A_TIME = 4096  # of full covariances, which would take 8 D bytes a number in float64


@dataclass(frozen=True)
class GaussianMixture:
    """E Gaussians over D dimensions for each of N inputs; a single model is E = 1.

    Everything is computed in float64, whatever the tensors are.

    Attributes:
        mean: `[E, N, D]`.
        log_var: Logarithm of the variances, `[E, N, D]`, of diagonal Gaussians.
        scale_tril: Instead of `log_var`: lower Cholesky factors of the covariances,
            `[E, N, D, D]`.

    Raises:
        ValueError: If the shapes do not fit, a value is not finite, or not exactly one of
            `log_var` and `scale_tril` is given.
    """

    mean: Tensor
    log_var: Tensor | None = None
    scale_tril: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.log_var is None) == (self.scale_tril is None):
            raise ValueError("a mixture needs either log_var or scale_tril")
        if self.mean.ndim != 3 or self.mean.numel() == 0:
            raise ValueError(f"mean must be [E, N, D] and not empty, got {tuple(self.mean.shape)}")
        shape = tuple(self.mean.shape)
        spreads = (
            ("log_var", self.log_var, shape),
            ("scale_tril", self.scale_tril, (*shape, shape[-1])),
        )
        for name, values, expected in (("mean", self.mean, shape), *spreads):
            if values is None:
                continue
            if tuple(values.shape) != expected:
                raise ValueError(
                    f"{name} must have the shape {expected}, got {tuple(values.shape)}"
                )
            if not torch.isfinite(values).all():
                raise ValueError(f"{name} has values that are not finite")

    @property
    def num_dims(self) -> int:
        """D."""
        return self.mean.shape[-1]

    def component_std(self) -> Tensor:
        """Standard deviation of each dimension in each component, `[E, N, D]`."""
        if self.log_var is not None:
            return (0.5 * self.log_var.double()).exp()
        assert self.scale_tril is not None
        # The variances are the squared norms of the factor's rows.
        norms: Tensor = torch.linalg.vector_norm(self.scale_tril, dim=-1, dtype=torch.float64)
        return norms

    def mixture_mean(self) -> Tensor:
        """`[N, D]`."""
        return self.mean.double().mean(dim=0)

    def mixture_std(self) -> Tensor:
        """Standard deviation of each dimension, `[N, D]`, by the law of total variance."""
        means = self.mean.double()
        variance = self.component_std().square().mean(dim=0) + means.var(dim=0, correction=0)
        return variance.sqrt()

    def log_prob(self, target: Tensor) -> Tensor:
        """Joint log density of targets `[N, D]` over all dimensions, `[N]`."""
        self._check(target)
        components = torch.cat([self._joint(rows, target) for rows in self._chunks()], dim=1)
        return torch.logsumexp(components, dim=0) - math.log(len(self.mean))

    def marginal_log_prob(self, target: Tensor) -> Tensor:
        """Log density of each dimension of targets `[N, D]` by itself, `[N, D]`."""
        self._check(target)
        std = self.component_std()
        z = (target.double() - self.mean.double()) / std
        components = -0.5 * (LOG_2PI + z.square()) - std.log()
        return torch.logsumexp(components, dim=0) - math.log(len(self.mean))

    def cdf(self, target: Tensor) -> Tensor:
        """Probability that each dimension is at most that of the target, `[N, D]`."""
        self._check(target)
        z = (target.double() - self.mean.double()) / self.component_std()
        probability: Tensor = torch.special.ndtr(z).mean(dim=0)
        return probability

    def quantile(self, probability: float) -> Tensor:
        """Value that each dimension stays below with a probability in (0, 1), `[N, D]`."""
        if not 0 < probability < 1:
            raise ValueError(f"probability must be strictly between 0 and 1, got {probability}")
        mean, std = self.mean.double(), self.component_std()
        z = torch.special.ndtri(torch.tensor(probability, dtype=torch.float64))
        quantiles = mean + z.to(mean.device) * std
        # The mixture's quantile lies between those of its components.
        low: Tensor = quantiles.amin(dim=0)
        high: Tensor = quantiles.amax(dim=0)
        tolerance = _QUANTILE_TOLERANCE * std.amin(dim=0) + torch.finfo(low.dtype).eps * low.abs()
        while (high - low > tolerance).any():
            middle = (low + high) / 2
            is_below = torch.special.ndtr((middle - mean) / std).mean(dim=0) < probability
            low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
        return (low + high) / 2

    def _joint(self, rows: slice, target: Tensor) -> Tensor:
        """Joint log density of some rows under each component, `[E, rows]`."""
        error = target[rows].double() - self.mean[:, rows].double()
        if self.log_var is not None:
            log_var = self.log_var[:, rows].double()
            terms = LOG_2PI + log_var + error.square() * (-log_var).exp()
            return -0.5 * terms.sum(dim=-1)
        assert self.scale_tril is not None
        factor = self.scale_tril[:, rows].double()
        whitened: Tensor = torch.linalg.solve_triangular(factor, error[..., None], upper=False)
        log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        squared_distance = whitened[..., 0].square().sum(dim=-1)
        return -0.5 * (self.num_dims * LOG_2PI + log_det + squared_distance)

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, self.mean.shape[1], _ROWS_AT_A_TIME):
            yield slice(start, start + _ROWS_AT_A_TIME)

    def _check(self, target: Tensor) -> None:
        if target.shape != self.mean.shape[1:]:
            raise ValueError(
                f"target must have the shape {tuple(self.mean.shape[1:])}, got "
                f"{tuple(target.shape)}"
            )
        if not torch.isfinite(target).all():
            raise ValueError("target has values that are not finite")
