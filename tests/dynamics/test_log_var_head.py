"""A log-variance head by itself, solved on held-out data."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import log_var_head
from mbrl_bilevel.dynamics.log_var_head import (
    RIDGES,
    HeadProblem,
    cross_validated,
    fisher_scoring,
    solve_head,
)
from tests.dynamics.cases import normal

F, D = 5, 2


def features_of(num_rows: int, seed: int = 0) -> Tensor:
    """Features `[N, F]` on different scales, at their end a one."""
    features = normal(seed, num_rows, F - 1) * torch.tensor([1.0, 0.3, 1.5, 0.7])
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


TRUE_HEAD = torch.cat([0.5 * normal(1, F - 1, D), torch.tensor([[-3.0, 1.0]])])


def draw(num_rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features, and squared residuals whose log-variance is linear in them."""
    features = features_of(num_rows, seed)
    return features, normal(seed + 1, num_rows, D).square() * (features @ TRUE_HEAD).exp()


def nll(features: Tensor, squared: Tensor, head: Tensor) -> Tensor:
    """Summed over dimensions, without the constant."""
    log_var = features @ head
    return 0.5 * (log_var + squared / log_var.exp()).mean(dim=0).sum()


def by_lbfgs(features: Tensor, squared: Tensor, start: Tensor, ridge: float) -> Tensor:
    """The penalised problem, by a method that knows nothing of Fisher."""
    pull = 0.5 * ridge * features.square().mean()
    head = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [head],
        max_iter=300,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nll(features, squared, head) + 0.5 * pull * (head - start).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return head.detach()


def score(features: Tensor, squared: Tensor, start: Tensor, ridge: float | None) -> float:
    """Of two-fold cross-validation; None: of the start."""
    half = len(features) // 2
    folds = [(slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))]
    return sum(
        nll(
            features[other],
            squared[other],
            start if ridge is None else by_lbfgs(features[one], squared[one], start, ridge),
        ).item()
        for one, other in folds
    )


def problem_of(features: Tensor, squared: Tensor) -> HeadProblem:
    everything, alike = torch.ones_like(features[:, :1]), torch.ones_like(TRUE_HEAD[:, :1])
    return HeadProblem(features, squared, lambda head: head, everything, alike)


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 1.0])
def test_the_head_solves_the_penalised_problem(
    monkeypatch: pytest.MonkeyPatch, ridge: float
) -> None:
    monkeypatch.setattr(log_var_head, "RIDGES", (ridge,))
    features, squared = draw(200)
    start = TRUE_HEAD + 0.5 * normal(5, F, D)
    expected = by_lbfgs(features, squared, start, ridge)
    found = solve_head(features, squared, start)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    assert nll(features, squared, found) < nll(features, squared, start) - 0.1
    monkeypatch.setattr(log_var_head, "TOLERANCE", 0.0)
    exact = fisher_scoring(problem_of(features, squared), start, start, ridge, num_steps=100)
    torch.testing.assert_close(exact, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("offset", [-2.5, 6.0])
def test_a_start_far_off_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, offset: float) -> None:
    """Variances that are too small by a factor of 12, or too large by one of 400."""
    monkeypatch.setattr(log_var_head, "TOLERANCE", 0.0)
    features, squared = draw(400)
    start = TRUE_HEAD.clone()
    start[-1] += offset
    problem = problem_of(features, squared)
    found = fisher_scoring(problem, start, start, ridge=1e-6, num_steps=100)
    expected = by_lbfgs(features, squared, start, 1e-6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_known_log_variance_is_recovered() -> None:
    features, squared = draw(5000)
    found = solve_head(features, squared, torch.zeros(F, D, dtype=torch.float64))
    torch.testing.assert_close(found, TRUE_HEAD, rtol=0, atol=0.12)
    single = solve_head(features.float(), squared.float(), torch.zeros(F, D))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, found.float(), rtol=0, atol=5e-3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_rows", [12, 60])
def test_the_ridge_is_the_best_of_the_cross_validation(seed: int, num_rows: int) -> None:
    """And the head stays where none is better than that: the score never gets worse."""
    features, squared = draw(num_rows, 10 * seed)
    start = TRUE_HEAD + 0.15 * normal(10 * seed + 2, F, D)
    head, ridge = cross_validated(problem_of(features, squared), start)
    scores = {
        candidate: score(features, squared, start, candidate) for candidate in (*RIDGES, None)
    }
    assert scores[ridge] <= min(scores.values()) + 1e-3
    if ridge is None:
        assert torch.equal(head, start)
    else:
        expected = by_lbfgs(features, squared, start, ridge)
        torch.testing.assert_close(head, expected, rtol=0, atol=0.03)


def test_both_outcomes_of_the_cross_validation_occur() -> None:
    features, squared = draw(400)
    better, worse = TRUE_HEAD, TRUE_HEAD + 1.0
    stays = solve_head(features[:12], squared[:12], better)
    assert torch.equal(stays, better)
    assert not torch.equal(solve_head(features, squared, worse), worse)


def test_a_head_that_is_optimal_stays() -> None:
    features = features_of(100)
    found = solve_head(features, (features @ TRUE_HEAD).exp(), TRUE_HEAD)
    torch.testing.assert_close(found, TRUE_HEAD, rtol=0, atol=1e-9)


def test_a_head_stays_where_the_halves_contradict_each_other() -> None:
    features = features_of(100)
    shift = torch.where(torch.arange(100) < 50, 0.5, -0.5)[:, None]
    found = solve_head(features, (features @ TRUE_HEAD + shift).exp(), TRUE_HEAD)
    assert torch.equal(found, TRUE_HEAD)


@pytest.mark.parametrize("num_rows", [0, 1])
def test_too_few_rows_change_nothing(num_rows: int) -> None:
    features, squared = draw(10)
    found = solve_head(features[:num_rows], 100 * squared[:num_rows], TRUE_HEAD)
    assert torch.equal(found, TRUE_HEAD)


def test_residuals_of_zero_and_rows_fewer_than_features_stay_finite() -> None:
    features, squared = draw(3)
    for residuals in (torch.zeros_like(squared), squared, 1e6 * squared):
        assert solve_head(features, residuals, TRUE_HEAD).isfinite().all()
