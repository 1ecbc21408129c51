"""How good a dynamics model's one-step predictions are: error, likelihood, calibration.

Units: targets are predicted in normalised units, y = scale * y_normalised + constant. The raw
ones are those of the environment, each dimension's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.evaluation.calibration import DEFAULT_LEVELS, Calibration
from mbrl_bilevel.evaluation.mixture import GaussianMixture

COVERAGE_LEVELS = (0.5, 0.9, 0.95)


@dataclass(frozen=True)
class ErrorMetrics:
    """Root mean squared errors.

    Attributes:
        rmse: Over all rows and dimensions, in normalised units.
        rmse_raw: The same in raw units.
        rmse_per_dim: `[D]`, normalised.
        rmse_per_dim_raw: `[D]`, raw.
    """

    rmse: float
    rmse_raw: float
    rmse_per_dim: NDArray[np.float64]
    rmse_per_dim_raw: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            "rmse": self.rmse,
            "rmse_raw": self.rmse_raw,
            "rmse_per_dim": self.rmse_per_dim.tolist(),
            "rmse_per_dim_raw": self.rmse_per_dim_raw.tolist(),
        }


@dataclass(frozen=True)
class DynamicsMetrics:
    """What `dynamics_metrics` returns.

    Attributes:
        error: Of the mixture's mean.
        nll: Negative joint log density, per row and dimension, in normalised units.
        nll_raw: The same in raw units.
        nll_per_dim: `[D]`, of each dimension by itself, normalised; their mean is `nll` for a
            single diagonal Gaussian only.
        calibration: Central intervals, at many levels; `expected_calibration_error` in it.
        coverage: From a level to the share of targets in the central interval of that level.
        interval_width_90: Mean width of the central 90 % intervals, in normalised units.
    """

    error: ErrorMetrics
    nll: float
    nll_raw: float
    nll_per_dim: NDArray[np.float64]
    calibration: Calibration
    coverage: dict[float, float]
    interval_width_90: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON: `rmse`, `nll`, `ece`, `coverage_90`, ..."""
        return {
            **self.error.to_dict(),
            "nll": self.nll,
            "nll_raw": self.nll_raw,
            "nll_per_dim": self.nll_per_dim.tolist(),
            "ece": self.calibration.expected_calibration_error,
            "sharpness": self.calibration.sharpness,
            **{f"coverage_{100 * level:g}": v for level, v in self.coverage.items()},
            "interval_width_90": self.interval_width_90,
        }


def dynamics_metrics(
    prediction: GaussianMixture,
    target: Tensor,
    scale: Tensor,
    coverage_levels: Sequence[float] = COVERAGE_LEVELS,
) -> DynamicsMetrics:
    """Compare predictions with targets, both in normalised units.

    Args:
        prediction: Of E models for N inputs.
        target: `[N, D]`.
        scale: `[D]`, raw units per normalised unit (`Normalizer.std`).
        coverage_levels: Of the intervals whose coverage is reported.

    Raises:
        ValueError: If shapes differ or values are not finite.
    """
    nll = negative_log_likelihood(prediction, target)
    # Densities in raw units are smaller by the volume of a normalised unit.
    log_volume = float(scale.double().log().mean())
    probabilities = prediction.cdf(target)
    return DynamicsMetrics(
        error=error_metrics(prediction.mixture_mean() - target.double(), scale),
        nll=nll,
        nll_raw=nll + log_volume,
        nll_per_dim=-prediction.marginal_log_prob(target).mean(dim=0).cpu().numpy(),
        calibration=mixture_calibration(prediction, target),
        coverage={p: float(_is_covered(probabilities, p).mean()) for p in coverage_levels},
        interval_width_90=interval_width(prediction, 0.9),
    )


def error_metrics(error: Tensor, scale: Tensor) -> ErrorMetrics:
    """Summarise errors `[N, D]` in normalised units, with `scale` `[D]` raw units in each."""
    squared = error.double().square().mean(dim=0)
    squared_raw = squared * scale.double().square()
    return ErrorMetrics(
        rmse=float(squared.mean().sqrt()),
        rmse_raw=float(squared_raw.mean().sqrt()),
        rmse_per_dim=squared.sqrt().cpu().numpy(),
        rmse_per_dim_raw=squared_raw.sqrt().cpu().numpy(),
    )


def persistence_error(obs: Tensor, next_obs: Tensor, scale: Tensor) -> ErrorMetrics:
    """Return the error of the prediction that nothing changes.

    Args:
        obs: `[N, D]`, raw.
        next_obs: `[N, D]`, raw.
        scale: `[D]`, raw units per normalised unit, the same as for the model.
    """
    return error_metrics((obs.double() - next_obs.double()) / scale.double(), scale)


def negative_log_likelihood(prediction: GaussianMixture, target: Tensor) -> float:
    """Return `-log p(y) / D`, the joint density's, averaged over targets `[N, D]`."""
    return -float(prediction.log_prob(target).mean()) / prediction.num_dims


def mixture_calibration(
    prediction: GaussianMixture, target: Tensor, levels: Sequence[float] = DEFAULT_LEVELS
) -> Calibration:
    """Compare targets `[N, D]` with the central intervals of a mixture.

    The interval of level p reaches from the mixture's quantile (1 - p) / 2 to (1 + p) / 2. A
    target lies in it exactly if its cumulative probability F(y) lies between those two.

    Raises:
        ValueError: If a level is not strictly between 0 and 1, or shapes differ.
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be strictly between 0 and 1, got {tuple(levels)}")
    probabilities = prediction.cdf(target)
    observed_per_dim = np.stack(
        [_is_covered(probabilities, level).mean(axis=0) for level in levels]
    )
    expected = np.asarray(levels, dtype=np.float64)
    observed = observed_per_dim.mean(axis=1)
    return Calibration(
        expected=expected,
        observed=observed,
        observed_per_dim=observed_per_dim,
        expected_calibration_error=float(np.abs(observed - expected).mean()),
        sharpness=float(prediction.mixture_std().mean()),
    )


def interval_width(prediction: GaussianMixture, level: float) -> float:
    """Return the mean width of the central intervals of a level, over rows and dimensions."""
    upper, lower = prediction.quantile((1 + level) / 2), prediction.quantile((1 - level) / 2)
    return float((upper - lower).mean())


def _is_covered(probabilities: Tensor, level: float) -> NDArray[np.float64]:
    """1 where a cumulative probability `[N, D]` is in the central interval of a level, else 0."""
    inside: NDArray[np.float64] = ((2 * probabilities - 1).abs() <= level).double().cpu().numpy()
    return inside
