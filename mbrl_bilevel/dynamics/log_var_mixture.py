"""The outer problem of a state-dependent reward: an ensemble's log-variance heads, together."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble, bound_log_var
from mbrl_bilevel.dynamics.leverage import Leverage
from mbrl_bilevel.dynamics.log_var_head import HeadProblem, cross_validated, fisher_scoring

MAX_ROWS = 4096
"""Held-out rows used at most: the features of all members are kept at once."""
MAX_SURPRISE = 50.0
"""Squared residual over variance that counts at most: an episode unlike all others, which no
variance explains, must not decide about the rest."""
SLOPE_PENALTY = 1e-3
"""Of the slope in the leverage, beside a penalty of one for each other row of a head: there is no
slope in training to hold it near to."""
CHI_SQUARED_MEDIAN = 0.4549
"""Of one degree of freedom: the median surprise where variances are right."""
NUM_ROUNDS = 10
"""Rounds of expectation maximisation at most."""
STEPS_A_ROUND = 5
"""Of Fisher scoring, at most."""
ROUND_TOLERANCE = 1e-3
"""Least improvement of a round worth going on for, in nats per dimension."""
COVERAGE = 0.9
"""Of the intervals that are calibrated in the end."""
MAX_SHIFT = 3.0
"""Of log-variances, to calibrate them: a factor of 4.5 in the standard deviations."""
MIN_CALIBRATION_ROWS = 100
"""With fewer, a coverage of 90% cannot be told from another: there is no shift."""


@torch.no_grad()
def solve_log_var_heads(
    network: GaussianEnsemble, x_training: Tensor, x: Tensor, target: Tensor
) -> dict[str, float]:
    """Fit the members' log-variance heads to held-out residuals, means and features frozen.

    A head is linear in the features of the last hidden layer and in the leverage (see `Leverage`).

    Each by itself first (see `solve_head`); then together, as what is asked is the mixture: by
    expectation maximisation, each round a fit of every member to the rows it is responsible
    for. Members that are each as uncertain as their own errors would make a mixture that is more
    uncertain than its errors. Last, a shift of each dimension's log-variances, for all members
    the same: its central 90% interval is to hold 90% of the held-out targets, when heads are solved
    for on one half of them and judged on the other. Errors have heavier
    tails than Gaussians, and the likelihood alone pays for the tails with intervals that are too
    wide elsewhere; the shift may raise the NLL. Residuals that no variance
    explains count as less (`MAX_SURPRISE`).

    Args:
        network: Its last layer and its leverage are changed in place.
        x_training: Normalised training inputs `[N, D_x]`; unlike these is what has leverage.
        x: Normalised held-out inputs `[N, D_x]`.
        target: Normalised held-out targets `[N, D]`.

    Returns:
        What to log: the mixture's held-out NLL per dimension before and after; the norm of the
        hypergradient that was left over before the shift (of the joint NLL without outliers, in
        a shift of each head's outputs, by dimension), and its share of what it was at first.
    """
    stride = -(-len(x) // MAX_ROWS)
    x, target = x[::stride], target[::stride]
    x_training = x_training[:: -(-len(x_training) // MAX_ROWS)]
    assert network.leverage is not None
    problems, starts, residuals = _head_problems(network, network.leverage, x_training, x, target)
    slope = _slope(problems, starts)
    before = _mixture_nll(problems, starts, residuals)
    solved = [cross_validated(*pair) for pair in zip(problems, starts, strict=True)]
    ridges = [ridge for _, ridge in solved]
    heads = _as_a_mixture(problems, [head for head, _ in solved], ridges)
    left_over = _slope(problems, heads)
    if len(x) >= MIN_CALIBRATION_ROWS:
        shift = _calibrating_shift(residuals, _out_of_fold(problems, starts, ridges))
        for head in heads:
            head[-1] += shift
    size = network.target_size
    for member, head in enumerate(heads):
        network.weights[-1][member, :, size:] = head[:-2]
        network.leverage.slope[member] = head[-2]
        network.biases[-1][member, :, size:] = head[-1:]
    return {
        "bilevel/outer_loss_before": before,
        "bilevel/outer_loss": _mixture_nll(problems, heads, residuals),
        "bilevel/hypergradient_norm": left_over,
        "bilevel/solver_residual": left_over / slope if slope > 0 else 0.0,
    }


def _head_problems(
    network: GaussianEnsemble, leverage: Leverage, x_training: Tensor, x: Tensor, target: Tensor
) -> tuple[list[HeadProblem], list[Tensor], Tensor]:
    """Each member's problem, its head `[F, D]` as it is, and all residuals `[E, N, D]`.

    The leverage is the last feature but one, the one the last.
    """
    size = network.target_size
    problems, starts, residuals = [], [], []
    for member in range(network.ensemble_size):
        leverage.fit(member, network.member_features(x_training, member))
        own = network.member_features(x, member)
        head = torch.cat([network.weights[-1][member], network.biases[-1][member]])
        residuals.append(own @ head[:, :size] - target)
        features = torch.cat([own[:, :-1], leverage.of_member(member, own), own[:, -1:]], dim=1)
        start = head[:, size:]
        start = torch.cat([start[:-1], torch.zeros_like(start[:1]), start[-1:]])
        squared = _without_outliers(residuals[-1].square(), bound_log_var(features @ start))
        everything, penalties = torch.ones_like(x[:, :1]), torch.ones_like(start[:, :1])
        penalties[-2] = SLOPE_PENALTY
        problems.append(HeadProblem(features, squared, bound_log_var, everything, penalties))
        starts.append(start)
    return problems, starts, torch.stack(residuals)


def _without_outliers(squared_residuals: Tensor, log_var: Tensor) -> Tensor:
    """Squared residuals `[N, D]`, at most `MAX_SURPRISE` of their variances.

    The variances that training left may all be too small: their level is taken from the median.
    """
    surprise = squared_residuals * (-log_var).exp()
    level = surprise.median(dim=0).values / CHI_SQUARED_MEDIAN
    return torch.minimum(squared_residuals, MAX_SURPRISE * level * log_var.exp())


def _as_a_mixture(
    problems: list[HeadProblem], heads: list[Tensor], ridges: list[float | None]
) -> list[Tensor]:
    """Expectation maximisation from heads `[F, D]` on; members without a ridge stay."""
    if len(problems) == 1:
        return heads
    centres = heads
    responsibilities, latest = _responsibilities(problems, heads)
    for _ in range(NUM_ROUNDS):
        candidates = [
            head
            if ridge is None
            else fisher_scoring(
                replace(problem, weights=weights), centre, head, ridge, STEPS_A_ROUND
            )
            for problem, weights, centre, head, ridge in zip(
                problems, responsibilities, centres, heads, ridges, strict=True
            )
        ]
        responsibilities, nll = _responsibilities(problems, candidates)
        if not nll < latest:
            break
        heads, improvement, latest = candidates, latest - nll, nll
        if improvement < ROUND_TOLERANCE:
            break
    return heads


def _out_of_fold(
    problems: list[HeadProblem], starts: list[Tensor], ridges: list[float | None]
) -> Tensor:
    """Outputs `[E, N, D]` for each half of the rows, of heads solved for on the other half."""
    halves = problems[0].halves
    outputs = []
    for own, other in (halves, halves[::-1]):
        learned_from = [problem.rows(other) for problem in problems]
        alone = [
            start if ridge is None else fisher_scoring(problem, start, start, ridge)
            for problem, start, ridge in zip(learned_from, starts, ridges, strict=True)
        ]
        heads = _as_a_mixture(learned_from, alone, ridges)
        pairs = zip(problems, heads, strict=True)
        outputs.append(torch.stack([problem.features[own] @ head for problem, head in pairs]))
    return torch.cat(outputs, dim=1)


def _mixture_nll(problems: list[HeadProblem], heads: list[Tensor], residuals: Tensor) -> float:
    """The mixture's NLL per dimension, of the residuals `[E, N, D]` as they are."""
    as_they_are = [
        replace(problem, squared_residuals=own.square())
        for problem, own in zip(problems, residuals, strict=True)
    ]
    return _responsibilities(as_they_are, heads)[1]


def _slope(problems: list[HeadProblem], heads: list[Tensor]) -> float:
    """The norm of the mixture's gradient in shifts of the heads' outputs."""
    slopes = [
        replace(problem, weights=weights).gradient(head)[-1]
        for problem, weights, head in zip(
            problems, _responsibilities(problems, heads)[0], heads, strict=True
        )
    ]
    return float(torch.stack(slopes).norm())


def _responsibilities(problems: list[HeadProblem], heads: list[Tensor]) -> tuple[Tensor, float]:
    """How likely each row is which member's, `[E, N, 1]`, and the mixture's NLL per dimension."""
    pairs = zip(problems, heads, strict=True)
    log_likelihood = torch.stack([-problem.row_nll(head).sum(dim=-1) for problem, head in pairs])
    mixture = log_likelihood.logsumexp(dim=0) - math.log(len(problems))
    return log_likelihood.softmax(dim=0)[..., None], -mixture.mean().item() / heads[0].shape[1]


def _calibrating_shift(residuals: Tensor, outputs: Tensor) -> Tensor:
    """The shift `[D]` of heads' outputs with which 90% of targets lie in the mixture's intervals.

    By bisection: coverage grows with the variances.

    Args:
        residuals: `[E, N, D]`.
        outputs: Of heads, `[E, N, D]`: log-variances before they are bounded.
    """
    low = torch.full_like(residuals[0, 0], -MAX_SHIFT)
    high = torch.full_like(low, MAX_SHIFT)
    tail = (1 - COVERAGE) / 2
    for _ in range(20):
        middle = (low + high) / 2
        whitened = residuals * (-0.5 * bound_log_var(outputs + middle)).exp()
        quantile = torch.special.ndtr(whitened).mean(dim=0)
        inside = (quantile > tail) & (quantile < 1 - tail)
        covers = inside.double().mean(dim=0) >= COVERAGE
        low, high = torch.where(covers, low, middle), torch.where(covers, middle, high)
    return (low + high) / 2
