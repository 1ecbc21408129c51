"""A learned finite process: probabilities by an objective, rewards and terminations by means."""

from collections.abc import Callable

import numpy as np

from mbrl_bilevel.config.tabular import (
    CountsConfig,
    DirichletConfig,
    OneHotBilevelConfig,
    OneHotPGConfig,
)
from mbrl_bilevel.tabular.counts import IntArray, TransitionCounts
from mbrl_bilevel.tabular.mdp import FloatArray, TabularMDP
from mbrl_bilevel.tabular.one_hot import (
    beta_by_class_shares,
    held_out_nll,
    inner_solution,
    learn_beta,
)
from mbrl_bilevel.tabular.state_dependent import (
    INITIAL_WEIGHTS,
    learn_weights,
    state_dependent_solution,
)

INITIAL_BETA = 1.0
"""Of a reward that nothing has been held out for yet."""

ObjectiveSettings = CountsConfig | DirichletConfig | OneHotPGConfig | OneHotBilevelConfig


def learned_mdp(
    seen: TransitionCounts, transition_table: FloatArray, initial_counts: IntArray
) -> TabularMDP:
    """Return the process that has been seen, with any probabilities `[S, A, S']`.

    The reward of a step is the mean of those seen, and its termination the share of those seen that
    terminated. Of a step never seen, the reward is the mean reward of its state and action, or that
    of all steps to the state it leads to, whichever tells the rewards seen better; zero, where
    there is none. It terminates as often as steps to the same state do.

    Args:
        seen: All transitions.
        transition_table: `[S, A, S']`.
        initial_counts: How many episodes began in each state, `[S]`.
    """
    num_states = len(initial_counts)
    known = seen.counts > 0
    times = np.maximum(seen.counts, 1)
    arrivals = np.maximum(seen.counts.sum(axis=(0, 1)), 1)
    rewards = seen.reward_sums / times
    begun = initial_counts.sum()
    return TabularMDP(
        transition_table,
        np.where(known, rewards, _reward_elsewhere(seen, rewards, arrivals)),
        np.where(known, seen.terminations / times, seen.terminations.sum(axis=(0, 1)) / arrivals),
        initial_counts / begun if begun else np.full(num_states, 1.0 / num_states),
    )


def _reward_elsewhere(
    seen: TransitionCounts, rewards: FloatArray, arrivals: IntArray
) -> FloatArray:
    """Return the rewards of steps that were never seen, `[S, A, S']`."""
    visits = np.maximum(seen.visits, 1)[..., None]
    by_action = seen.reward_sums.sum(axis=-1, keepdims=True) / visits
    by_arrival = seen.reward_sums.sum(axis=(0, 1)) / arrivals
    error_by_action, error_by_arrival = (
        float((seen.counts * (rewards - mean) ** 2).sum()) for mean in (by_action, by_arrival)
    )
    chosen = by_arrival if error_by_arrival < error_by_action else by_action
    return np.broadcast_to(chosen, rewards.shape)


def maximum_likelihood(counts: IntArray) -> FloatArray:
    """Return the shares of the classes counted, `[..., C]`; where none was, uniform ones."""
    totals = counts.sum(axis=-1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    filled: FloatArray = np.where(totals > 0, shares, 1.0 / counts.shape[-1])
    return filled


def dirichlet_mean(counts: IntArray, prior_count: float) -> FloatArray:
    """Return the posterior mean `(n_c + prior_count / C) / (n + prior_count)`, `[..., C]`."""
    totals = counts.sum(axis=-1, keepdims=True)
    mean: FloatArray = (counts + prior_count / counts.shape[-1]) / (totals + prior_count)
    return mean


def learn_transitions(
    seen: TransitionCounts, objective: ObjectiveSettings
) -> tuple[FloatArray, dict[str, float]]:
    """Return probabilities `[S, A, S']` by an objective, and what to log.

    What is logged as `model/val_nll`, in nats, is of the held-out transitions, under a model that
    has not seen them. The probabilities returned are of all transitions. For `bilevel`: the inner
    solution of all of them, for the beta that was learned on those held out.
    """
    counts = seen.counts.reshape(-1, seen.counts.shape[-1])
    held_out = seen.held_out.reshape(counts.shape)
    inner = counts - held_out
    fitted, metrics = _fit(inner, held_out, objective)
    if held_out.any():
        metrics["model/val_nll"] = _nll(fitted(inner), held_out)
    probs = fitted(counts)
    return probs.reshape(seen.counts.shape), metrics


def _fit(
    inner: IntArray, held_out: IntArray, objective: ObjectiveSettings
) -> tuple[Callable[[IntArray], FloatArray], dict[str, float]]:
    """Return a function from counts `[N, C]` to probabilities, and what to log."""
    if isinstance(objective, CountsConfig):
        return maximum_likelihood, {}
    if isinstance(objective, DirichletConfig):
        return lambda counts: dirichlet_mean(counts, objective.prior_count), {}
    if isinstance(objective, OneHotBilevelConfig) and objective.reward == "state_dependent":
        weights, metrics = _learned_weights(inner, held_out)
        return lambda counts: state_dependent_solution(counts, weights), metrics
    beta, metrics = _beta(inner, held_out, objective)
    temperature = objective.temperature if isinstance(objective, OneHotPGConfig) else 1.0

    def solution(counts: IntArray) -> FloatArray:
        return inner_solution(_shares(counts), beta, temperature)

    return solution, metrics


def _learned_weights(inner: IntArray, held_out: IntArray) -> tuple[FloatArray, dict[str, float]]:
    if not held_out.any():
        return INITIAL_WEIGHTS, {}
    weights, outer_loss, gradient_norm = learn_weights(inner, held_out)
    metrics = {"bilevel/outer_loss": outer_loss, "bilevel/hypergradient_norm": gradient_norm}
    names = ("seen", "seen_growth", "unseen", "unseen_growth")
    return weights, metrics | {
        f"bilevel/{name}": float(weight) for name, weight in zip(names, weights, strict=True)
    }


def _beta(
    inner: IntArray, held_out: IntArray, objective: OneHotPGConfig | OneHotBilevelConfig
) -> tuple[float, dict[str, float]]:
    if isinstance(objective, OneHotPGConfig):
        if objective.beta is not None:
            return objective.beta, {}
        class_shares = inner.sum(axis=0) / max(inner.sum(), 1)
        return beta_by_class_shares(class_shares, objective.temperature), {}
    if not held_out.any():
        return INITIAL_BETA, {}
    shares = _shares(inner)
    beta = learn_beta(shares, held_out, temperature=1.0)
    outer_loss = held_out_nll(shares, held_out, beta, temperature=1.0)
    return beta, {"bilevel/beta": beta, "bilevel/outer_loss": outer_loss}


def _shares(counts: IntArray) -> FloatArray:
    """Return class shares `[N, C]`; zeros, not uniform ones, where nothing was counted."""
    shares: FloatArray = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return shares


def _nll(probs: FloatArray, held_out: IntArray) -> float:
    """Return the mean negative log-likelihood; infinite where something impossible happened."""
    happened = held_out > 0
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs[happened])
    return float(-(held_out[happened] * log_probs).sum() / held_out.sum())
