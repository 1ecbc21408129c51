"""A joint distribution of inputs and targets that is known exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mbrl_bilevel.errors import ConfigError

Vectors = NDArray[np.floating[Any]]
"""`[N, D]`."""
Matrices = NDArray[np.floating[Any]]
"""`[N, D, D]`, or `[1, D, D]` if it is the same for all."""
MeanFn = Callable[[Vectors], ArrayLike]
"""`E[y|x]`: inputs `[N, D_x]` -> `[N, D]`."""
NoiseFn = Callable[[Vectors], ArrayLike]
"""Standard deviations of y given x: inputs `[N, D_x]` -> `[N, D]`, positive."""
FactorFn = Callable[[Vectors], Matrices]
"""A lower factor L of the noise's covariance `L L^T`: inputs `[N, D_x]` -> `[N or 1, D, D]`."""

NUM_POINTS = 2**12
"""Inputs that averages over x are taken over: a Sobol sequence."""


@dataclass(frozen=True)
class ToyDistribution:
    """`y = m(x) + L(x) eps`, with x uniform in a box around 0 and eps standard normal.

    Attributes:
        input_size: D_x.
        x_limit: Each input lies between minus this and this.
        mean_fn: m.
        factor_fn: L.
    """

    input_size: int
    x_limit: float
    mean_fn: MeanFn
    factor_fn: FactorFn

    @cached_property
    def target_size(self) -> int:
        """D, the dimension of the targets."""
        size: int = self.mean(self.points).shape[1]
        return size

    def sample(
        self, rng: np.random.Generator, num: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return inputs `[N, D_x]` and targets `[N, D]`."""
        x = rng.uniform(-self.x_limit, self.x_limit, (num, self.input_size)).astype(np.float32)
        noise = self.factor(x) @ rng.standard_normal((num, self.target_size, 1))
        return x, (self.mean(x) + noise[..., 0]).astype(np.float32)

    def mean(self, x: ArrayLike) -> Vectors:
        """Return `E[y|x]` `[N, D]` for inputs `[N, D_x]`.

        Raises:
            ConfigError: The mean function returns something else.
        """
        inputs = np.asarray(x, dtype=np.float64)
        mean: Vectors = np.asarray(self.mean_fn(inputs), dtype=np.float64)
        if mean.ndim != 2 or len(mean) != len(inputs) or not np.isfinite(mean).all():
            raise ConfigError(
                f"mean_fn returns an array of shape {list(mean.shape)} for inputs of shape "
                f"{list(inputs.shape)}; it must return finite numbers [N, D] for inputs [N, D_x]"
            )
        return mean

    def factor(self, x: ArrayLike) -> Matrices:
        """Return L(x) `[N or 1, D, D]`."""
        return self.factor_fn(np.asarray(x, dtype=np.float64))

    def covariance(self, x: ArrayLike) -> Matrices:
        """Return the noise's covariance S(x) `[N or 1, D, D]`: one if it is the same for all x."""
        factor = self.factor(x)
        return factor @ factor.swapaxes(1, 2)

    def conditional_entropy(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the entropy of y given x, `[N or 1]`, in nats."""
        log_dets = np.linalg.slogdet(self.covariance(x))[1]
        constant = self.target_size * math.log(2 * math.pi * math.e)
        entropy: NDArray[np.float64] = 0.5 * (constant + log_dets)
        return entropy

    @cached_property
    def points(self) -> Vectors:
        """Inputs `[4096, D_x]` that fill the box evenly."""
        engine = torch.quasirandom.SobolEngine(self.input_size)  # type: ignore[no-untyped-call]
        # Each coordinate takes each multiple of 1 / N once: shifted by half of it, the mean is 0.
        unit = engine.draw(NUM_POINTS, dtype=torch.float64).numpy() + 0.5 / NUM_POINTS
        return self.x_limit * (2 * unit - 1)

    @cached_property
    def entropy(self) -> float:
        """Entropy of y given x, averaged over x, in nats: the lowest NLL that a model can have."""
        return float(self.conditional_entropy(self.points).mean())

    @cached_property
    def marginal_covariance(self) -> NDArray[np.floating[Any]]:
        """Covariance of y `[D, D]`, its dependence on x included."""
        means = self.mean(self.points)
        deviations = means - means.mean(axis=0)
        between: NDArray[np.floating[Any]] = deviations.T @ deviations / len(deviations)
        within: NDArray[np.floating[Any]] = self.covariance(self.points).mean(axis=0)
        return between + within
