"""A one-hot reward that depends on state and action, learned on held-out transitions.

With a diagonal `U(x)` the expected one-hot reward of predicting c is `-u_c (1 - 2 q_c)`, up to a
constant, and the inner optimum `p(c | x) = softmax_c(-u_c(x) (1 - 2 q_c(x)) / lambda)`; with
`U = beta I` that is `softmax(2 beta q / lambda)` of theory, section 3. A single beta has to do two
things at once, tell classes that happen from those that never did, and leave the shares of those
that happen alone, and cannot. Here each has a weight of its own, which grows with n, how often the
state and action have been tried:

`u_c(x) / lambda = w_0 + w_1 log(1 + n)` for classes that were seen, and `w_2 + w_3 log(1 + n)` for
others.

The held-out negative log-likelihood is convex in the four weights, all of them at least zero.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.tabular.mdp import FloatArray

MAX_WEIGHT = 60.0
"""Bound of each weight."""

MAX_STEPS = 100
TOLERANCE = 1e-9

INITIAL_WEIGHTS = np.array([1.5, 0.0, 1.0, 1.0])
"""Those of a reward that has not been learned: close to shares, and to Good and Turing's 1 / n."""


@dataclass(frozen=True)
class _Features:
    """Logits as linear functions of the weights, `features @ weights`.

    Attributes:
        seen: Of the classes that were seen, `[N, K, 4]`, padded.
        unseen: Of any other class, `[N, 4]`.
        valid: Where `seen` is no padding, `[N, K]`.
        num_unseen: How many other classes there are, `[N]`.
        index: Of the classes that were seen, `[N, K]`, padded.
    """

    seen: FloatArray
    unseen: FloatArray
    valid: NDArray[np.bool_]
    num_unseen: NDArray[np.int64]
    index: NDArray[np.int64]


def state_dependent_solution(counts: NDArray[np.int64], weights: FloatArray) -> FloatArray:
    """Return the inner optimum for inner data with these counts, `[N, C]`.

    Args:
        counts: How often each class was seen, `[N, C]`.
        weights: Of the reward, `[4]`.
    """
    features = _features(counts)
    seen, unseen = _log_probs(features, weights)
    probs = np.broadcast_to(np.exp(unseen)[:, None], counts.shape).copy()
    rows, places = np.nonzero(features.valid)
    probs[rows, features.index[rows, places]] = np.exp(seen[rows, places])
    return probs


def learn_weights(
    counts: NDArray[np.int64],
    held_out: NDArray[np.int64],
    initial: FloatArray = INITIAL_WEIGHTS,
) -> tuple[FloatArray, float, float]:
    """Return the weights `[4]` that make held-out classes most likely, by Newton's method.

    Args:
        counts: Of the inner data, `[N, C]`.
        held_out: How often each class was held out, `[N, C]`; not all zero.
        initial: Where to start, `[4]`.

    Returns:
        The weights; the outer loss, in nats a held-out transition; and the norm of the
        hypergradient in the directions that the bounds leave free.
    """
    informative = held_out.any(axis=1)
    held_out = held_out[informative]
    features = _features(counts[informative])
    own = np.where(features.valid, np.take_along_axis(held_out, features.index, axis=1), 0)
    new = held_out.sum(axis=1) - own.sum(axis=1)
    weights = np.clip(initial, 0.0, MAX_WEIGHT)
    loss, gradient, hessian = _outer_loss(features, own, new, weights)
    for _ in range(MAX_STEPS):
        free = ~(((weights <= 0) & (gradient > 0)) | ((weights >= MAX_WEIGHT) & (gradient < 0)))
        if np.linalg.norm(gradient[free]) < TOLERANCE:
            break
        step = np.zeros_like(weights)
        system = hessian[np.ix_(free, free)] + 1e-9 * np.eye(int(free.sum()))
        step[free] = np.linalg.solve(system, gradient[free])
        moved = _line_search(features, own, new, weights, step, gradient, loss)
        if moved is None:
            break
        weights = moved
        loss, gradient, hessian = _outer_loss(features, own, new, weights)
    return weights, loss, float(np.linalg.norm(gradient[free]))


def _line_search(
    features: _Features,
    own: NDArray[np.int64],
    new: NDArray[np.int64],
    weights: FloatArray,
    step: FloatArray,
    gradient: FloatArray,
    loss: float,
) -> FloatArray | None:
    """Return weights with a sufficiently lower loss along a step, held to the bounds."""
    for halvings in range(40):
        candidate = np.clip(weights - 0.5**halvings * step, 0.0, MAX_WEIGHT)
        decrease = float(gradient @ (weights - candidate))
        if decrease > 0 and _outer_loss(features, own, new, candidate)[0] < loss - 1e-4 * decrease:
            return candidate
    return None


def _features(counts: NDArray[np.int64]) -> _Features:
    num_seen = (counts > 0).sum(axis=1)
    width = max(int(num_seen.max(initial=0)), 1)
    # Classes in descending order of their counts: those that were seen come first.
    index = np.argsort(-counts, axis=1, kind="stable")[:, :width]
    valid = np.arange(width) < num_seen[:, None]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.take_along_axis(counts, index, axis=1) / np.maximum(totals, 1)
    log_visits = np.log1p(totals)
    margin = 2.0 * shares - 1.0
    zeros = np.zeros_like(margin)
    nothing = np.zeros(len(counts))
    return _Features(
        seen=np.stack([margin, margin * log_visits, zeros, zeros], axis=-1),
        unseen=np.stack([nothing, nothing, nothing - 1.0, -log_visits[:, 0]], axis=-1),
        valid=valid,
        num_unseen=counts.shape[1] - num_seen,
        index=index,
    )


def _log_probs(features: _Features, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log-probabilities of the seen classes `[N, K]` and of any other one `[N]`."""
    seen = np.where(features.valid, features.seen @ weights, -np.inf)
    unseen = np.where(features.num_unseen > 0, features.unseen @ weights, -np.inf)
    top = np.maximum(seen.max(axis=1), unseen)
    total = np.exp(seen - top[:, None]).sum(axis=1) + features.num_unseen * np.exp(unseen - top)
    norm = top + np.log(total)
    return seen - norm[:, None], unseen - norm


def _outer_loss(
    features: _Features, own: NDArray[np.int64], new: NDArray[np.int64], weights: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Return the outer loss, its gradient `[4]` and its Hessian `[4, 4]` in the weights.

    Args:
        features: Of N states and actions.
        own: Held-out classes that were seen, `[N, K]`.
        new: Held-out classes that were not, `[N]`.
        weights: `[4]`.
    """
    log_seen, log_unseen = _log_probs(features, weights)
    times = own.sum(axis=1) + new
    total = times.sum()
    happened = np.where(own > 0, own * np.where(own > 0, log_seen, 0.0), 0.0).sum()
    happened += np.where(new > 0, new * np.where(new > 0, log_unseen, 0.0), 0.0).sum()

    share_seen = np.exp(log_seen)
    share_unseen = features.num_unseen * np.exp(log_unseen)
    mean = (share_seen[..., None] * features.seen).sum(axis=1)
    mean += share_unseen[:, None] * features.unseen
    actual = np.einsum("nk,nkf->f", own, features.seen) + new @ features.unseen
    gradient = (times @ mean - actual) / total

    weighted = share_seen * times[:, None]
    second = np.einsum("nk,nkf,nkg->fg", weighted, features.seen, features.seen)
    second += np.einsum("n,nf,ng->fg", share_unseen * times, features.unseen, features.unseen)
    second -= np.einsum("n,nf,ng->fg", times, mean, mean)
    return float(-happened / total), gradient, second / total
