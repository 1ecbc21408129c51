"""The policy-gradient loss: what it is made of, its conditional form, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import (
    FunctionalProblem,
    PolicyGradientLoss,
    hypergradient,
    make_solver,
)
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators import Analytic, Dice, Estimator, Reparameterised, ScoreFunction
from mbrl_bilevel.heads import (
    CategoricalHead,
    DiagonalGaussianHead,
    FullGaussianHead,
    GaussianHead,
    Head,
)
from mbrl_bilevel.rewards import (
    EmbeddingReward,
    MahalanobisReward,
    NeuralReward,
    OneHotReward,
    Reward,
    StateDependentReward,
)

Params = dict[str, Tensor]

HEAD = DiagonalGaussianHead(1)


# --- what is refused


def functional_problem(loss: PolicyGradientLoss) -> tuple[FunctionalProblem, Params, Params]:
    """Free outputs at one x, and somewhere to stand."""
    head = loss.head
    x = torch.zeros(4, 2)
    y = torch.arange(4) % 2 if isinstance(head, CategoricalHead) else torch.ones(4, 2)

    def outer_loss(z: Tensor, _phi: Params, _x: Tensor, target: Tensor) -> Tensor:
        return -head.log_prob(z, target)

    problem = FunctionalProblem(
        lambda theta, inputs: theta["z"].expand(len(inputs), -1),
        loss,
        outer_loss,
        loss.conditional,
        (x, y),
        (x, y),
    )
    return problem, {"z": torch.zeros(head.num_outputs)}, loss.reward.outer_params()


IMPLICIT = ["dense", "cg", "neumann", "nystrom", "functional", "unrolled"]


@pytest.mark.parametrize("solver", IMPLICIT)
@pytest.mark.parametrize(
    ("head", "reward"),
    [(DiagonalGaussianHead(2), MahalanobisReward(2)), (CategoricalHead(2), OneHotReward(2))],
    ids=["gaussian", "categorical"],
)
def test_score_function_with_an_implicit_solver(head: Head, reward: Reward, solver: str) -> None:
    arguments = functional_problem(PolicyGradientLoss(head, reward, ScoreFunction(4)))
    with pytest.raises(ConfigError) as caught:
        hypergradient(*arguments, make_solver(solver))
    message = str(caught.value)
    assert f"solver '{solver}'" in message
    assert "holds its samples fixed" in message
    assert "'analytic', 'reparameterised' or 'dice'" in message


@pytest.mark.parametrize("reward", [NeuralReward(2, 2), EmbeddingReward(2)])
def test_functional_with_a_reward_that_is_not_quadratic(reward: Reward) -> None:
    loss = PolicyGradientLoss(DiagonalGaussianHead(2), reward, Reparameterised(4))
    message = rf"'functional' cannot read .* head 'diagonal' .* {type(reward).__name__}; use 'cg'"
    with pytest.raises(ConfigError, match=message):
        hypergradient(*functional_problem(loss), make_solver("functional"))


@pytest.mark.parametrize("head", [DiagonalGaussianHead(2), FullGaussianHead(2)])
@pytest.mark.parametrize("reward", [NeuralReward(2, 2), EmbeddingReward(2)])
def test_analytic_with_a_reward_that_is_not_quadratic(head: Head, reward: Reward) -> None:
    message = rf"'analytic' knows no closed form for head '{head.name}' .*'reparameterised' or"
    with pytest.raises(ConfigError, match=message):
        PolicyGradientLoss(head, reward, Analytic())


def test_reparameterised_with_a_categorical_head() -> None:
    message = "'reparameterised': samples of head 'categorical' .* use 'analytic' or 'dice'"
    with pytest.raises(ConfigError, match=message):
        PolicyGradientLoss(CategoricalHead(3), OneHotReward(3), Reparameterised())


@pytest.mark.parametrize("estimator", [Analytic(), Reparameterised(), Dice(), ScoreFunction()])
@pytest.mark.parametrize(
    ("head", "reward", "message"),
    [
        (DiagonalGaussianHead(3), OneHotReward(3), "OneHotReward is for classes, not .*'diagonal'"),
        (FullGaussianHead(3), OneHotReward(3), "OneHotReward is for classes, not .*'full'"),
        (
            CategoricalHead(3),
            MahalanobisReward(3),
            "MahalanobisReward is for real vectors, not for head 'categorical'",
        ),
        (DiagonalGaussianHead(3), MahalanobisReward(2), "for 2 dimensions, the head has 3"),
        (FullGaussianHead(2), StateDependentReward(3, 1), "for 3 dimensions, the head has 2"),
        (CategoricalHead(3), OneHotReward(4), "for 4 dimensions, the head has 3"),
    ],
)
def test_heads_and_rewards_of_different_spaces(
    head: Head, reward: Reward, message: str, estimator: Estimator
) -> None:
    with pytest.raises(ConfigError, match=message):
        PolicyGradientLoss(head, reward, estimator)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ConfigError, match=rf"temperature={temperature}; it must be positive"):
        PolicyGradientLoss(HEAD, MahalanobisReward(1), Analytic(), temperature)


# --- the conditional loss


@pytest.mark.parametrize("structure", ["scalar", "diagonal", "full"])
def test_the_shares_of_classes_are_recovered_from_a_solution(structure) -> None:
    """At `p = softmax(R q / temperature)` the conditional loss is the mean over y ~ q."""
    temperature, size = 0.7, 4
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    u = {
        "scalar": 1.3 * torch.eye(size, dtype=torch.float64),
        "diagonal": torch.diag(torch.arange(1.0, size + 1, dtype=torch.float64)),
        "full": root @ root.mT + torch.eye(size, dtype=torch.float64),
    }[structure]
    reward = OneHotReward(size, structure, u)
    shares = torch.rand(3, size, generator=generator, dtype=torch.float64).softmax(dim=-1)
    solution = (shares @ reward.table().detach().mT) / temperature + 5.0  # a common shift is free
    loss = PolicyGradientLoss(CategoricalHead(size), reward, Analytic(), temperature)
    z = torch.randn(3, size, generator=generator, dtype=torch.float64)

    found = loss.conditional(z, {}, torch.zeros(3, 1), solution)
    each_class = torch.stack(
        [loss(z, {}, None, torch.full((3,), label)) for label in range(size)], dim=-1
    )
    torch.testing.assert_close(found, (shares * each_class).sum(dim=-1))


@pytest.mark.parametrize("estimator", [Analytic(), Reparameterised(2), Dice(2)])
@pytest.mark.parametrize("head", [DiagonalGaussianHead(2), FullGaussianHead(2)])
def test_the_conditional_loss_of_a_gaussian_is_exact_up_to_a_constant(
    head: GaussianHead, estimator: Estimator
) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    u = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    reward = MahalanobisReward(2, "full", u)
    solution = head.outputs(y.mean(dim=0)[None], torch.eye(2, dtype=torch.float64))
    z = torch.randn(4, head.num_outputs, generator=generator, dtype=torch.float64)
    found = PolicyGradientLoss(head, reward, estimator).conditional(z, {}, torch.zeros(1), solution)
    exact = PolicyGradientLoss(head, reward, Analytic())
    average = exact(z[:, None], {}, None, y).mean(dim=1)
    torch.testing.assert_close(found - found[0], average - average[0])


def test_outer_params_take_the_place_of_the_rewards_own() -> None:
    loss = PolicyGradientLoss(HEAD, MahalanobisReward(1).double(), Analytic())
    z, y = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    doubled = {"log_u": torch.tensor([math.log(2.0)], dtype=torch.float64)}
    entropy = HEAD.entropy(z)
    torch.testing.assert_close(
        loss(z, doubled, None, y) + entropy, 2 * (loss(z, {}, None, y) + entropy)
    )


def test_the_temperature_weighs_the_entropy() -> None:
    z = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, reward = torch.ones(3, 1, dtype=torch.float64), MahalanobisReward(1).double()
    warm, cold = (
        PolicyGradientLoss(HEAD, reward, Analytic(), temperature)(z, {}, None, y)
        for temperature in (2.0, 0.5)
    )
    torch.testing.assert_close(cold - warm, 1.5 * HEAD.entropy(z))
