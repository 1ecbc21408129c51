"""Calibration of Gaussian predictions: do central intervals cover as often as they claim?

Kuleshov, Fenner and Ermon, "Accurate Uncertainties for Deep Learning Using Calibrated
Regression" (ICML 2018), for central intervals instead of one-sided ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEFAULT_LEVELS = tuple(np.linspace(0.05, 0.95, 19).tolist())


@dataclass(frozen=True)
class Calibration:
    """How often intervals of L levels covered the targets.

    Attributes:
        expected: `[L]`, the levels: an interval of level 0.9 should cover 90 % of the targets.
        observed: `[L]`, the fraction covered, over all targets and dimensions.
        observed_per_dim: `[L, D]`, the fraction covered in each dimension.
        expected_calibration_error: mean of |observed - expected| over the levels.
        sharpness: mean predicted standard deviation, in the targets' units; of two calibrated
            models the one with the smaller value says more.
    """

    expected: NDArray[np.float64]
    observed: NDArray[np.float64]
    observed_per_dim: NDArray[np.float64]
    expected_calibration_error: float
    sharpness: float


def gaussian_calibration(
    mean: ArrayLike,
    std: ArrayLike,
    target: ArrayLike,
    levels: Sequence[float] = DEFAULT_LEVELS,
) -> Calibration:
    """Compare the targets with the central intervals of independent Gaussian predictions.

    An interval of level p covers a target within `quantile((1 + p) / 2) * std` of the mean.

    Args:
        mean: `[N, D]`; arrays, or tensors on the CPU without gradient, here and below.
        std: `[N, D]`, not negative.
        target: `[N, D]`.
        levels: strictly between 0 and 1.

    Raises:
        ValueError: shapes differ or are not `[N, D]` with N and D above 0, an entry is not
            finite, a standard deviation is negative, or a level is out of range.
    """
    arrays = {"mean": _finite("mean", mean, 2)}
    for name, values in (("std", std), ("target", target)):
        arrays[name] = _finite(name, values, 2)
        if arrays[name].shape != arrays["mean"].shape:
            raise ValueError(
                f"{name} must have the shape {arrays['mean'].shape} of mean, "
                f"got {arrays[name].shape}"
            )
    if (arrays["std"] < 0).any():
        raise ValueError(f"std must not be negative, got {arrays['std'].min()}")
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be strictly between 0 and 1, got {tuple(levels)}")

    error = np.abs(arrays["target"] - arrays["mean"])
    quantiles = [NormalDist().inv_cdf((1 + level) / 2) for level in levels]
    observed_per_dim = np.stack([(error <= q * arrays["std"]).mean(axis=0) for q in quantiles])
    expected = np.asarray(levels, dtype=np.float64)
    observed = observed_per_dim.mean(axis=1)
    return Calibration(
        expected=expected,
        observed=observed,
        observed_per_dim=observed_per_dim,
        expected_calibration_error=float(np.abs(observed - expected).mean()),
        sharpness=float(arrays["std"].mean()),
    )


def ensemble_moments(
    means: ArrayLike, variances: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation `[N, D]` of an equally weighted mixture of E Gaussians.

    By the law of total variance: the variance is the mean of the members' variances (noise)
    plus the variance of their means (disagreement).

    Args:
        means: `[E, N, D]`.
        variances: `[E, N, D]`, not negative.

    Raises:
        ValueError: shapes differ or are not `[E, N, D]`, an entry is not finite, or a variance
            is negative.
    """
    member_means = _finite("means", means, 3)
    member_variances = _finite("variances", variances, 3)
    if member_means.shape != member_variances.shape:
        raise ValueError(
            f"variances must have the shape {member_means.shape} of means, "
            f"got {member_variances.shape}"
        )
    if (member_variances < 0).any():
        raise ValueError(f"variances must not be negative, got {member_variances.min()}")
    variance = member_variances.mean(axis=0) + member_means.var(axis=0)
    return member_means.mean(axis=0), np.sqrt(variance)


def _finite(name: str, values: ArrayLike, num_axes: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != num_axes or array.size == 0:
        raise ValueError(f"{name} must have {num_axes} non-empty axes, got shape {array.shape}")
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} has the value {array[index]} at {index}")
    return array
