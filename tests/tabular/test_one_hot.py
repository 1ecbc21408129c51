"""The one-hot reward of tables: closed forms against the bilevel core, and against training."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from mbrl_bilevel.bilevel import BilevelProblem, BilevelTrainer, hypergradient, make_solver
from mbrl_bilevel.bilevel.policy_gradient import PolicyGradientLoss
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.heads import CategoricalHead
from mbrl_bilevel.rewards import OneHotReward
from mbrl_bilevel.tabular import inner_solution, learn_beta, learn_weights, state_dependent_solution
from mbrl_bilevel.tabular.one_hot import (
    MAX_SHARPNESS,
    MIN_SHARPNESS,
    beta_by_class_shares,
    held_out_nll,
    hypergradient_sums,
)
from mbrl_bilevel.tabular.state_dependent import MAX_WEIGHT, _features, _outer_loss
from tests.tabular.cases import random_counts


def shares_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def as_data(counts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Counts `[N, C]` as rows: one-hot inputs `[M, N]` and classes `[M]`."""
    rows, classes = np.nonzero(counts)
    times = counts[rows, classes]
    inputs = np.eye(len(counts))[np.repeat(rows, times)]
    return torch.tensor(inputs), torch.tensor(np.repeat(classes, times))


def total_variation(p: NDArray[np.float64], q: Tensor) -> float:
    return float(0.5 * np.abs(p - q.detach().numpy()).sum(axis=1).max())


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_trained_table_is_the_softmax_of_the_shares(temperature: float) -> None:
    """Logits trained by the bilevel trainer: the inner optimum, and the beta of the outer one."""
    inner, held_out = random_counts(0, num_rows=5, num_classes=4)
    inner += 1  # inputs that never occur would not be trained
    model = nn.Linear(5, 4, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    reward = OneHotReward(4, "scalar", initial=1.0).double()
    trainer = BilevelTrainer(
        model,
        reward,
        temperature=temperature,
        inner_lr=0.05,
        outer_lr=0.1,
        inner_steps=20,
        final_inner_steps=400,
    )
    with pytest.warns(UserWarning, match="is not held out"):  # classes repeat themselves
        trainer.fit(as_data(inner), as_data(held_out), num_outer_steps=60)
    beta = float(reward.metric.precision().diagonal()[0].detach())
    shares = shares_of(inner)
    trained = model(torch.eye(5, dtype=torch.float64)).softmax(dim=1)
    assert total_variation(inner_solution(shares, beta, temperature), trained) <= 1e-3
    assert beta == pytest.approx(learn_beta(shares, held_out, temperature), rel=0.02)
    # It says something: the shares themselves are not the optimum.
    assert total_variation(shares, trained) > 0.02


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_hypergradient_is_that_of_the_core(seed: int, temperature: float) -> None:
    inner, held_out = random_counts(seed)
    shares = shares_of(inner)
    q, h = torch.tensor(shares), torch.tensor(held_out, dtype=torch.float64)

    def solution(outer: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": 2 * outer["beta"] * q / temperature}

    def inner_objective(params: dict[str, Tensor], outer: dict[str, Tensor]) -> Tensor:
        log_p = params["logits"].log_softmax(dim=1)
        expected = 2 * outer["beta"] * ((log_p.exp() * q).sum(dim=1) - 1)
        return -(expected - temperature * (log_p.exp() * log_p).sum(dim=1)).sum()

    def outer_objective(params: dict[str, Tensor], outer: dict[str, Tensor]) -> Tensor:
        del outer
        return -(h * params["logits"].log_softmax(dim=1)).sum()

    beta = torch.tensor(0.9, dtype=torch.float64)
    start = {"beta": beta}
    result = hypergradient(
        BilevelProblem(inner_objective, outer_objective, solution),
        solution(start),
        start,
        make_solver("closed_form"),
    )
    assert result.stationarity < 1e-10
    found = hypergradient_sums(shares, held_out, 0.9, temperature).sum()
    assert found == pytest.approx(result.grad["beta"].item(), rel=1e-9)
    assert held_out_nll(shares, held_out, 0.9, temperature) == pytest.approx(
        result.outer_loss / held_out.sum()
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_learned_beta_is_the_best(seed: int) -> None:
    inner, held_out = random_counts(seed)
    shares = shares_of(inner)
    best = learn_beta(shares, held_out, 1.0)
    loss = held_out_nll(shares, held_out, best, 1.0)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert held_out_nll(shares, held_out, factor * best, 1.0) > loss
    assert learn_beta(shares, held_out, 7.0) == pytest.approx(7 * best)  # beta / lambda


def test_beta_is_held_to_its_bounds() -> None:
    shares = np.array([[1.0, 0.0, 0.0]])
    always, never = np.array([[5, 0, 0]]), np.array([[0, 5, 5]])
    assert learn_beta(shares, always, 1.0) == pytest.approx(MAX_SHARPNESS / 2)
    assert learn_beta(shares, never, 1.0) == pytest.approx(MIN_SHARPNESS / 2)


def test_the_papers_rule() -> None:
    assert beta_by_class_shares(np.full(4, 0.25), 1.5) == pytest.approx(1.5 * 4 / (2 * 0.75))
    assert beta_by_class_shares(np.array([1.0, 0.0]), 1.0) == MAX_SHARPNESS / 2


def test_the_state_dependent_solution_is_stationary() -> None:
    """Its logits leave no inner gradient, by the core's loss with the reward's U(x)."""
    counts = np.array([[6, 3, 1, 0, 0]])
    weights = np.array([0.8, 0.1, 1.2, 0.3])
    log_visits = np.log1p(10)
    u_seen, u_unseen = weights[0] + weights[1] * log_visits, weights[2] + weights[3] * log_visits
    u = torch.diag(torch.tensor(np.where(counts[0] > 0, u_seen, u_unseen)))
    reward = OneHotReward(5, "diagonal", initial=u).double()
    loss = PolicyGradientLoss(CategoricalHead(5), reward, Analytic(), temperature=1.0)
    probs = torch.tensor(state_dependent_solution(counts, weights))
    _, y = as_data(counts)
    logits = probs.log().requires_grad_()
    loss(logits.expand(len(y), 5), {}, None, y).mean().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-7
    assert probs.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_derivatives_of_the_weights_loss(seed: int) -> None:
    inner, held_out = random_counts(seed)
    features = _features(inner)
    own = np.where(features.valid, np.take_along_axis(held_out, features.index, axis=1), 0)
    new = held_out.sum(axis=1) - own.sum(axis=1)
    weights = np.array([0.7, 0.2, 1.1, 0.4])
    loss, gradient, hessian = _outer_loss(features, own, new, weights)
    probs = state_dependent_solution(inner, weights)
    assert loss == pytest.approx(-(held_out * np.log(probs)).sum() / held_out.sum())
    for i, step in enumerate(1e-5 * np.eye(4)):
        above, below = (_outer_loss(features, own, new, weights + s) for s in (step, -step))
        assert gradient[i] == pytest.approx((above[0] - below[0]) / 2e-5, rel=1e-5, abs=1e-9)
        np.testing.assert_allclose(hessian[i], (above[1] - below[1]) / 2e-5, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_the_learned_weights_are_the_best(seed: int) -> None:
    """Against a general optimiser with bounds, on the probabilities themselves."""
    inner, held_out = random_counts(seed)

    def loss(weights: NDArray[np.float64]) -> float:
        probs = state_dependent_solution(inner, weights)
        return float(-(held_out * np.log(np.maximum(probs, 1e-300))).sum() / held_out.sum())

    found, outer_loss, gradient_norm = learn_weights(inner, held_out)
    best = minimize(loss, np.ones(4), bounds=[(0, MAX_WEIGHT)] * 4, tol=1e-12).fun
    assert outer_loss == pytest.approx(loss(found))
    assert outer_loss <= best + 1e-6
    assert gradient_norm < 1e-6
    shares = shares_of(inner)
    assert outer_loss < held_out_nll(shares, held_out, learn_beta(shares, held_out, 1.0), 1.0)
