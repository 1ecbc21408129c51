"""Means and noises that have a name, and those that are given as numbers or functions."""

import numpy as np
from numpy.typing import ArrayLike

from mbrl_bilevel.errors import ConfigError
from mbrl_envs.gaussian_toy.distribution import FactorFn, Matrices, MeanFn, NoiseFn, Vectors

SHIFT = 6.0
NOISE_STD = 1.25
"""Of section 5.2 of Benechehab et al. (2025)."""
CORRELATION = 0.8

MEANS: dict[str, MeanFn] = {
    "shift": lambda x: x + SHIFT,
    "sine": lambda x: SHIFT + 5.0 * np.sin(x),
}
NOISES = ("constant", "correlated", "heteroscedastic")


def make_mean_fn(mean: str | MeanFn) -> MeanFn:
    """Return the function of that name, or the function itself.

    Raises:
        ConfigError: There is none of that name.
    """
    if callable(mean):
        return mean
    if mean not in MEANS:
        raise ConfigError(f"mean={mean!r}; allowed: {', '.join(MEANS)}, or a function of x [N, D]")
    return MEANS[mean]


def make_factor_fn(noise: str | ArrayLike | NoiseFn, target_size: int, x_limit: float) -> FactorFn:
    """Return the function that factorises the noise's covariance.

    Args:
        noise: `"constant"`: 1.25 in each dimension. `"correlated"`: that, with correlations of
            0.8. `"heteroscedastic"`: `1.25 exp(x_i / x_limit)` in dimension i, which is for as many
            targets as inputs. A number or `[D]`: standard deviations. `[D, D]`: a covariance. A
            function: standard deviations `[N, D]` of inputs `[N, D_x]`.
        target_size: D.
        x_limit: Largest input.

    Raises:
        ConfigError: It is none of these.
    """
    if callable(noise):
        return _of_stds(noise, target_size)
    if isinstance(noise, str):
        if noise == "heteroscedastic":
            return _of_stds(lambda x: NOISE_STD * np.exp(x / x_limit), target_size)
        if noise not in NOISES:
            raise ConfigError(
                f"noise={noise!r}; allowed: {', '.join(NOISES)}, standard deviations, a "
                "covariance [D, D], or a function of x [N, D]"
            )
        correlation = CORRELATION if noise == "correlated" else 0.0
        correlations = np.full((target_size, target_size), correlation)
        np.fill_diagonal(correlations, 1.0)
        return _constant(NOISE_STD**2 * correlations)
    return _constant(_covariance(noise, target_size))


def _covariance(noise: ArrayLike, target_size: int) -> Matrices:
    try:
        numbers = np.asarray(noise, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"noise={noise!r} is neither a name nor numbers") from None
    if numbers.shape in ((), (target_size,)):
        _check_stds(numbers)
        return np.diag(np.broadcast_to(numbers, target_size) ** 2)
    if numbers.shape != (target_size, target_size) or not np.allclose(numbers, numbers.T):
        raise ConfigError(
            f"noise has shape {list(numbers.shape)}; it must be a number, [{target_size}], or a "
            f"symmetric [{target_size}, {target_size}]"
        )
    return numbers


def _constant(covariance: Matrices) -> FactorFn:
    try:
        factor = np.linalg.cholesky(covariance)[None]
    except np.linalg.LinAlgError:
        raise ConfigError("noise: the covariance is not positive definite") from None
    return lambda _: factor


def _of_stds(noise_fn: NoiseFn, target_size: int) -> FactorFn:
    def factor(x: Vectors) -> Matrices:
        stds = np.asarray(noise_fn(x), dtype=np.float64)
        if stds.shape != (len(x), target_size):
            raise ConfigError(
                f"noise gives standard deviations of shape {list(stds.shape)} for {len(x)} inputs "
                f"and {target_size} targets; it must give [{len(x)}, {target_size}]"
            )
        _check_stds(stds)
        return stds[..., None] * np.eye(target_size)

    return factor


def _check_stds(stds: Vectors) -> None:
    if not (np.isfinite(stds).all() and (stds > 0).all()):
        raise ConfigError(
            f"noise: standard deviations between {stds.min():g} and {stds.max():g}; they must be "
            "positive and finite"
        )
