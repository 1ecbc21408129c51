"""Errors as a constant reward counts them: quadratic as far as Gaussian ones get, linear beyond."""

import torch
from torch import Tensor

MEDIAN_TO_STD = 1.4826
"""Of a Gaussian's absolute errors."""


def within_tails(mean: Tensor, target: Tensor, tails: float | None) -> Tensor:
    """Return targets `[E, N, D]` no further from the means `[E, N, D]` than Gaussian errors get.

    With the mean in the place of a prediction, the gradient of a squared error to what is returned
    is that of Huber's loss (1964), with a threshold that follows the errors of each member and
    dimension. A few contacts, whose errors are a hundred times those of free motion, would
    otherwise decide alone what a network learns, which inputs it may keep, and how uncertain it is
    everywhere else.

    Args:
        mean: Held fixed: nothing is differentiated through the targets.
        target: `[E, N, D]` or `[N, D]`.
        tails: Threshold in typical standard deviations, by the median error of the N; None: none.
    """
    if tails is None:
        return target
    mean = mean.detach()
    error = target - mean
    limit = tails * MEDIAN_TO_STD * error.abs().median(dim=1, keepdim=True).values
    # Without a typical error nothing is untypical; what is infinite is to be noticed.
    limit = torch.where(limit > 0, limit, torch.inf)
    return torch.where(error.isfinite(), mean + error.clamp(-limit, limit), target)
