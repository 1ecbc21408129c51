"""The bilevel problem of a table of probabilities, solved in closed form (theory, section 3).

The model gives each state and action a distribution over the next states, and the reward of a
prediction is the one-hot Mahalanobis reward with `U = beta I`, of Benechehab et al. (2025), section
4.3: `-2 beta [y_hat != y]`. With shares q of the classes on the inner data and temperature lambda,

- the inner optimum is `p(c) = softmax_c(2 beta q(c) / lambda)`;
- the outer loss, the held-out negative log-likelihood, is convex in beta, with the hypergradient
  `dL/dbeta = (2 / lambda) E[E_{c ~ p} q(c) - q(y)]`.
"""

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.tabular.mdp import FloatArray

MIN_SHARPNESS, MAX_SHARPNESS = 1e-3, 60.0
"""Bounds of `2 beta / lambda`. At the upper one, which processes without noise are learned with, a
state that was never seen gets `exp(-60)` of what one that always follows gets."""

NUM_BISECTIONS = 40


def inner_solution(shares: FloatArray, beta: FloatArray | float, temperature: float) -> FloatArray:
    """Return the inner optimum `softmax(2 beta q / temperature)`, `[..., C]`.

    Args:
        shares: q, how often each class was seen, `[..., C]`.
        beta: `[...]`, or a number.
        temperature: lambda, positive.
    """
    log_probs: FloatArray = _log_solution(shares, 2.0 * np.asarray(beta) / temperature)
    return np.exp(log_probs)


def held_out_nll(
    shares: FloatArray, held_out: NDArray[np.int64], beta: FloatArray | float, temperature: float
) -> float:
    """Return the outer loss: mean negative log-likelihood of held-out classes, in nats.

    Args:
        shares: `[N, C]`.
        held_out: How often each class was held out, `[N, C]`; not all zero.
        beta: `[N]`, or a number.
        temperature: lambda, positive.
    """
    log_probs = _log_solution(shares, 2.0 * np.asarray(beta) / temperature)
    return float(-(held_out * log_probs).sum() / held_out.sum())


def hypergradient_sums(
    shares: FloatArray, held_out: NDArray[np.int64], beta: FloatArray | float, temperature: float
) -> FloatArray:
    """Return `dL/dbeta` of each row's summed, not mean, outer loss, `[N]`; see `held_out_nll`."""
    probs = inner_solution(shares, beta, temperature)
    expected = held_out.sum(axis=-1) * (probs * shares).sum(axis=-1)
    gradients: FloatArray = 2.0 / temperature * (expected - (held_out * shares).sum(axis=-1))
    return gradients


def learn_beta(shares: FloatArray, held_out: NDArray[np.int64], temperature: float) -> float:
    """Return the beta that makes held-out classes most likely, one for all rows.

    The hypergradient's root, by bisection in `log beta`; what lies beyond the bounds of
    `2 beta / temperature` is held to them.

    Args:
        shares: `[N, C]`.
        held_out: How often each class was held out, `[N, C]`; not all zero.
        temperature: lambda, positive.
    """
    low, high = _bounds(temperature)
    own = held_out.any(axis=-1)
    shares, held_out = shares[own], held_out[own]
    for _ in range(NUM_BISECTIONS):
        middle = 0.5 * (low + high)
        beta = float(np.exp(middle))
        rises = hypergradient_sums(shares, held_out, beta, temperature).sum() > 0
        low, high = (low, middle) if rises else (middle, high)
    return float(np.exp(0.5 * (low + high)))


def beta_by_class_shares(shares: FloatArray, temperature: float) -> float:
    """Return the paper's rule `lambda C / (2 (1 - sum_c q_c^2))`, with q the class shares `[C]`.

    A single class, for which the rule has no finite value, gets the upper bound.
    """
    impurity = 1.0 - float((shares**2).sum())
    largest = MAX_SHARPNESS * temperature / 2
    return min(largest, temperature * len(shares) / (2 * impurity)) if impurity > 0 else largest


def _log_solution(shares: FloatArray, sharpness: FloatArray) -> FloatArray:
    logits = sharpness[..., None] * shares
    logits -= logits.max(axis=-1, keepdims=True)
    normalised: FloatArray = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return normalised


def _bounds(temperature: float) -> tuple[float, float]:
    """Return the bounds of `log beta`."""
    return (
        float(np.log(MIN_SHARPNESS * temperature / 2)),
        float(np.log(MAX_SHARPNESS * temperature / 2)),
    )
