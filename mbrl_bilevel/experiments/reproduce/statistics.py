"""Means over seeds and their intervals."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

# Quantiles 0.975 of Student's t distribution, for 1 to 30 degrees of freedom.
_T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL_QUANTILE = 1.960


def mean_and_margin(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95% interval (Student's t); nan of one value."""
    num = len(values)
    if num < 2:
        return fmean(values), math.nan
    quantile = _T_QUANTILES[num - 2] if num - 2 < len(_T_QUANTILES) else _NORMAL_QUANTILE
    return fmean(values), quantile * stdev(values) / math.sqrt(num)


def shown(mean: float, margin: float, digits: int = 3) -> str:
    """Return `mean +- margin` as text, the mean alone if there is no margin."""
    text = f"{mean:.{digits}f}"
    return text if math.isnan(margin) else f"{text} +- {margin:.{digits}f}"
