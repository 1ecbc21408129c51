"""Aggregates over seeds and tasks with stratified bootstrap intervals (Agarwal et al. 2021).

The resampling is SciPy's: `scipy.stats.bootstrap` draws from each of its samples by itself, and a
sample is a task's, so that it is stratified by task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean

Scores = Sequence[NDArray[np.float64]]
"""Of each task the scores of its seeds, `[num_seeds]`."""
Statistic = Callable[..., NDArray[np.float64]]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval; nan where one seed leaves nothing to resample."""

    value: float
    low: float
    high: float


def interquartile_mean(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Mean of the middle half of all scores (the scores of all tasks together)."""
    return np.asarray(trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis))


def mean(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Mean over tasks of the mean over seeds."""
    return np.asarray(np.mean([np.mean(sample, axis=axis) for sample in samples], axis=0))


def median(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Median over tasks of the mean over seeds."""
    return np.asarray(np.median([np.mean(sample, axis=axis) for sample in samples], axis=0))


def optimality_gap(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Mean over tasks of what is missing to a score of one, on average."""
    return mean(*(1 - np.minimum(sample, 1.0) for sample in samples), axis=axis)


def improvement(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Probability that a run of X beats one of Y, averaged over tasks; ties count half.

    Args:
        samples: X's scores of each task, then Y's in the same order.
        axis: Of the seeds.
    """
    half = len(samples) // 2
    shares = []
    for x, y in zip(samples[:half], samples[half:], strict=True):
        one = np.expand_dims(np.moveaxis(x, axis, -1), -1)
        other = np.expand_dims(np.moveaxis(y, axis, -1), -2)
        shares.append(((one > other) + 0.5 * (one == other)).mean(axis=(-2, -1)))
    return np.asarray(np.mean(shares, axis=0))


AGGREGATES: dict[str, Statistic] = {
    "IQM": interquartile_mean,
    "median": median,
    "mean": mean,
    "optimality gap": optimality_gap,
}


def estimate(statistic: Statistic, scores: Scores, resamples: int) -> Estimate:
    """Return a statistic of scores with its percentile interval; always the same for the same ones.

    Args:
        statistic: Of the samples, as above.
        scores: Of each task.
        resamples: Of the bootstrap.
    """
    value = float(statistic(*scores))
    if min(len(sample) for sample in scores) < 2:
        return Estimate(value, np.nan, np.nan)
    result = bootstrap(
        tuple(scores),
        statistic,
        n_resamples=resamples,
        vectorized=True,
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return Estimate(value, float(low), float(high))
