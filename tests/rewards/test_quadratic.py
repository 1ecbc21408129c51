"""Mahalanobis rewards and their matrices U: closed forms, and what cannot be."""

import math

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards import (
    DiagonalPrecision,
    EmbeddingReward,
    FullPrecision,
    MahalanobisReward,
    NeuralReward,
    OneHotReward,
    Precision,
    QuadraticReward,
    StateDependentReward,
)
from tests.rewards.cases import D_X, REWARDS, D, normal, randomise, spd

QUADRATIC = ["scalar", "diagonal", "full", "state_diagonal", "state_full"]


@pytest.mark.parametrize("name", QUADRATIC)
def test_the_quadratic_form_is_that_of_its_matrix(name: str) -> None:
    y_hat, y, x = normal(0, 6, D), normal(1, 6, D), normal(2, 6, D_X)
    for seed in range(5):
        reward = randomise(REWARDS[name](), seed)
        assert isinstance(reward, QuadraticReward)
        u = reward.precision(x).matrix().expand(6, D, D)
        expected = -torch.einsum("si,sij,sj->s", y_hat - y, u, y_hat - y)
        torch.testing.assert_close(reward(y_hat, y, x), expected)


@pytest.mark.parametrize("name", QUADRATIC)
def test_it_is_positive_definite_whatever_the_parameters(name: str) -> None:
    for seed in range(20):
        reward = randomise(REWARDS[name](), seed, size=0.7)
        assert isinstance(reward, QuadraticReward)
        u = reward.precision(normal(seed, 6, D_X)).matrix()
        assert torch.equal(u, u.mT)
        assert (torch.linalg.eigvalsh(u) > 0).all()


PRECISIONS: list[Precision] = [
    DiagonalPrecision(normal(0, 5, D)),
    FullPrecision(normal(1, 5, D), normal(2, 5, D * (D - 1) // 2)),
]


@pytest.mark.parametrize("precision", PRECISIONS, ids=["diagonal", "full"])
def test_a_precision_agrees_with_its_matrix(precision: Precision) -> None:
    u = precision.matrix()
    torch.testing.assert_close(precision.diagonal(), u.diagonal(dim1=-2, dim2=-1))
    torch.testing.assert_close(precision.log_det(), torch.logdet(u))
    torch.testing.assert_close(precision.covariance(0.6), 0.3 * torch.linalg.inv(u))
    errors = normal(3, 7, 1, D)
    expected = torch.einsum("ksi,sij,ksj->ks", errors.expand(7, 5, D), u, errors.expand(7, 5, D))
    torch.testing.assert_close(precision.quadratic(errors), expected)
    if isinstance(precision, DiagonalPrecision):
        variances = precision.covariance(0.6).diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(precision.log_var(0.6), variances.log())


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (1e-6, 1.0, 1e6)])
def test_it_starts_at_the_matrix_given(scales: tuple[float, ...]) -> None:
    root = torch.tensor(scales, dtype=torch.float64).diag()
    u = root @ spd(0) @ root
    rewards = [
        MahalanobisReward(D, "full", u),
        StateDependentReward(D, D_X, "full", initial=u),
        EmbeddingReward(D, "full", initial=u).metric,
        OneHotReward(D, "full", u).metric,
    ]
    for reward in rewards:
        assert isinstance(reward, QuadraticReward)
        found = reward.precision(torch.zeros(4, D_X, dtype=torch.float64)).matrix()
        torch.testing.assert_close(found, u.expand_as(found), rtol=1e-9, atol=0)
        assert all(parameter.dtype == torch.float64 for parameter in reward.parameters())


def test_a_diagonal_start() -> None:
    u = torch.tensor([0.5, 2.0, 8.0]).diag()
    for reward in (MahalanobisReward(D, "diagonal", u), StateDependentReward(D, D_X, initial=u)):
        found = reward.precision(torch.zeros(1, D_X)).matrix()
        torch.testing.assert_close(found, u.expand_as(found))


def test_a_matrix_of_integers_is_a_matrix() -> None:
    reward = MahalanobisReward(2, "full", torch.tensor([[2, 1], [1, 3]]))
    torch.testing.assert_close(reward.precision().matrix(), torch.tensor([[2.0, 1.0], [1.0, 3.0]]))


@pytest.mark.parametrize("structure", ["scalar", "diagonal", "full"])
def test_members_have_a_matrix_of_their_own(structure) -> None:
    reward = MahalanobisReward(D, structure, num_members=2)
    randomise(reward, 0)
    y_hat, y = normal(0, 7, 2, 5, D), normal(1, 2, 5, D)
    found = reward(y_hat, y)
    assert found.shape == (7, 2, 5)
    assert not torch.allclose(reward.precision().matrix()[0], reward.precision().matrix()[1])
    for member in range(2):
        alone = MahalanobisReward(D, structure).double()
        state = {key: value[member] for key, value in reward.state_dict().items()}
        alone.load_state_dict(state)
        torch.testing.assert_close(found[:, member], alone(y_hat[:, member], y[member]))


def test_the_log_diagonal_of_a_scalar_is_expanded() -> None:
    reward = MahalanobisReward(D, "scalar", 0.25, num_members=2)
    assert reward.log_u.shape == (2, 1)
    torch.testing.assert_close(reward.log_diagonal, torch.full((2, D), math.log(0.25)))


def test_neural_weights_that_ignore_the_error_are_a_state_dependent_diagonal() -> None:
    neural = randomise(NeuralReward(D, D_X, (4,), initial=2.0), 0)
    state = StateDependentReward(D, D_X, "diagonal", (4,), initial=2.0).double()
    with torch.no_grad():
        neural.network[0].weight[:, :D] = 0.0
    weights = neural.network.state_dict()
    state.network.load_state_dict(weights | {"0.weight": weights["0.weight"][:, D:]})
    arguments = normal(0, 5, D), normal(1, 5, D), normal(2, 5, D_X)
    torch.testing.assert_close(neural(*arguments), state(*arguments))


def test_an_embedding_is_judged_by_the_metric() -> None:
    reward = randomise(EmbeddingReward(D, "full", (4,)), 0)
    y_hat, y = normal(0, 5, D), normal(1, 5, D)
    embedded = [value + reward.network(value) for value in (y_hat, y)]
    torch.testing.assert_close(reward(y_hat, y), reward.metric(*embedded))


NOT_SYMMETRIC = torch.tensor([[2.0, 1.0], [0.5, 2.0]])
INDEFINITE = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
IMPOSSIBLE = [
    (0.0, r"u=0\.0; it must be positive and finite"),
    (-1.0, r"u=-1\.0; it must be positive"),
    (math.nan, "u=nan; it must be positive"),
    (math.inf, "u=inf; it must be positive"),
    (1e-50, r"u=1e-50; .* \(in torch\.float32\)"),
    (torch.eye(3), r"U has shape \[3, 3\]; it must be \[2, 2\]"),
    (torch.ones(2), r"U has shape \[2\]; it must be \[2, 2\]"),
    (torch.tensor([[1.0, 0.0], [0.0, math.nan]]), "U holds nan or infinity"),
    (NOT_SYMMETRIC, r"U is not symmetric: U and its transpose differ by 0\.5"),
    (INDEFINITE, "U is not positive definite: its smallest eigenvalue is -1;"),
    (torch.zeros(2, 2), "U is not positive definite: its smallest eigenvalue is 0;"),
]


@pytest.mark.parametrize(("initial", "message"), IMPOSSIBLE)
def test_an_impossible_start(initial: float | Tensor, message: str) -> None:
    for make in (
        lambda: MahalanobisReward(2, "full", initial),
        lambda: StateDependentReward(2, 1, "full", initial=initial),
        lambda: EmbeddingReward(2, "full", initial=initial),
        lambda: OneHotReward(2, "full", initial),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_a_matrix_of_another_structure() -> None:
    off_diagonal = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    for structure in ("scalar", "diagonal"):
        with pytest.raises(ConfigError, match=f"a {structure} U cannot hold entries off the diag"):
            MahalanobisReward(2, structure, off_diagonal)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a diagonal U cannot hold entries off the diagonal"):
        StateDependentReward(2, 1, "diagonal", initial=off_diagonal)
    with pytest.raises(ConfigError, match="a scalar U has one number on its diagonal"):
        MahalanobisReward(2, "scalar", torch.tensor([1.0, 2.0]).diag())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MahalanobisReward(0), "target_size=0; it must be an integer of at least 1"),
        (lambda: MahalanobisReward(2.5), r"target_size=2\.5; it must be an integer"),
        (lambda: MahalanobisReward(2, num_members=0), "num_members=0; it must be at least 1"),
        (lambda: MahalanobisReward(2, "banded"), "unknown structure 'banded' of U; allowed: diag"),
        (lambda: StateDependentReward(2, 1, "scalar"), r"'scalar' of U\(x\); allowed: diagonal, f"),
        (lambda: StateDependentReward(2, 0), r"layer sizes \[0, 64, 64, 2\]"),
        (lambda: StateDependentReward(2, 1, hidden_sizes=(4, 0)), r"layer sizes \[1, 4, 0, 2\]"),
        (lambda: NeuralReward(0, 1), "target_size=0; it must be"),
        (lambda: NeuralReward(2, -1), "input_size=-1; it must be at least 0"),
        (lambda: NeuralReward(2, 1, initial=-2.0), r"u=-2\.0; it must be positive"),
        (lambda: EmbeddingReward(2, "banded"), "unknown structure 'banded'"),
        (lambda: OneHotReward(1), "num_classes=1; it must be an integer of at least 2"),
    ],
)
def test_an_impossible_size_or_structure(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
