"""Estimators of the expected reward: values and first derivatives against exact ones."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators import ESTIMATORS, Analytic, Dice, Estimator, Reparameterised
from mbrl_bilevel.heads import CategoricalHead, DiagonalGaussianHead, FullGaussianHead, Head
from mbrl_bilevel.rewards import MahalanobisReward, NeuralReward, OneHotReward, Reward

D, C = 2, 4
GAUSSIAN = [(DiagonalGaussianHead(D), "diagonal"), (FullGaussianHead(D), "full")]


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def quadratic(structure) -> Reward:
    reward = MahalanobisReward(D, structure).double()
    with torch.no_grad():
        for parameter in reward.parameters():
            parameter.add_(0.3)
    return reward


def setting(kind: str) -> tuple[Head, Reward, Tensor, Tensor]:
    """A head, a reward, outputs `[3, n]` and targets."""
    if kind == "categorical":
        reward = OneHotReward(C, "diagonal", torch.tensor([0.5, 1.0, 1.5, 2.0]).diag()).double()
        return CategoricalHead(C), reward, normal(0, 3, C), torch.tensor([0, 3, 1])
    head, structure = dict(zip(("diagonal", "full"), GAUSSIAN, strict=True))[kind]
    return head, quadratic(structure), 0.5 * normal(0, 3, head.num_outputs), normal(1, 3, D)


EACH_KIND = pytest.mark.parametrize("kind", ["diagonal", "full", "categorical"])


def estimate(estimator: Estimator, kind: str) -> tuple[Tensor, Tensor]:
    """The expected reward `[3]` and its gradient in the outputs."""
    head, reward, z, y = setting(kind)
    z.requires_grad_()
    expected = estimator.expected_reward(head, z, reward, y, None)
    (gradient,) = torch.autograd.grad(expected.sum(), z)
    return expected.detach(), gradient


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_analytic_is_the_mean_over_samples_of_exact_moments(kind: str) -> None:
    head, reward, z, y = setting(kind)
    noise = normal(2, 2000, 3, D)
    noise = torch.cat([noise, -noise])
    root = torch.linalg.cholesky(torch.einsum("ksi,ksj->sij", noise, noise) / len(noise))
    noise = torch.linalg.solve_triangular(root, noise[..., None], upper=False)[..., 0]
    expected = reward(head.sample(z, noise), y).mean(dim=0)
    torch.testing.assert_close(Analytic().expected_reward(head, z, reward, y, None), expected)


def test_analytic_is_the_sum_over_classes() -> None:
    head, reward, z, y = setting("categorical")
    classes = torch.arange(C)[:, None].expand(C, 3)
    expected = (z.softmax(dim=-1).mT * reward(classes, y)).sum(dim=0)
    torch.testing.assert_close(Analytic().expected_reward(head, z, reward, y, None), expected)


@pytest.mark.parametrize("estimator", [Reparameterised(50_000), Dice(50_000)])
@EACH_KIND
def test_many_samples_come_near_the_exact_value_and_gradient(
    estimator: Estimator, kind: str
) -> None:
    if kind == "categorical" and estimator.name == "reparameterised":
        pytest.skip("not differentiable")
    for found, exact in zip(estimate(estimator, kind), estimate(Analytic(), kind), strict=True):
        assert (found - exact).norm() <= 0.05 * exact.norm()


def test_the_inputs_reach_the_reward() -> None:
    reward = NeuralReward(D, 1, (3,)).double()
    with torch.no_grad():
        reward.network[2].weight.fill_(0.3)
    head, z, y = GAUSSIAN[0][0], normal(0, 3, 4), normal(1, 3, D)
    for estimator in (Reparameterised(8), Dice(8)):
        one, other = (
            estimator.expected_reward(head, z, reward, y, torch.full((3, 1), x).double())
            for x in (0.0, 2.0)
        )
        assert (one - other).abs().min() > 1e-3


@pytest.mark.parametrize("name", ["reparameterised", "dice", "score_function"])
def test_the_noise_is_frozen_until_resampled(name: str) -> None:
    head, reward, z, y = setting("diagonal")
    estimator = ESTIMATORS[name](num_samples=8, seed=3)
    state = torch.get_rng_state()
    first, same = (estimator.expected_reward(head, z, reward, y, None) for _ in range(2))
    assert torch.equal(first, same)
    assert torch.equal(torch.get_rng_state(), state)
    estimator.resample()
    assert not torch.equal(estimator.expected_reward(head, z, reward, y, None), first)


@EACH_KIND
def test_dice_with_a_behaviour_weighs_the_samples(kind: str) -> None:
    """The expectation under z from samples of another model."""
    head, reward, z, y = setting(kind)
    behaviour = z + 0.1 * normal(5, *z.shape)
    exact = Analytic().expected_reward(head, z, reward, y, None)
    at_behaviour = Analytic().expected_reward(head, behaviour, reward, y, None)
    found = Dice(50_000).expected_reward(head, z, reward, y, None, behaviour)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.02)
    assert (at_behaviour - exact).abs().max() > 0.05


@EACH_KIND
def test_dice_has_the_derivatives_of_the_expectation_to_second_order(kind: str) -> None:
    head, reward, z, y = setting(kind)

    def hessian(estimator: Estimator) -> Tensor:
        def value(row: Tensor) -> Tensor:
            return estimator.expected_reward(head, row[None], reward, y[:1], None)[0]

        return torch.autograd.functional.hessian(value, z[0])

    exact = hessian(Analytic())
    found = torch.stack([hessian(Dice(50_000, seed)) for seed in range(4)]).mean(dim=0)
    assert (found - exact).norm() <= 0.1 * exact.norm()


@EACH_KIND
def test_the_value_of_dice_is_the_mean_reward(kind: str) -> None:
    head, reward, z, y = setting(kind)
    dice = Dice(6)
    rewards = reward(dice.draw(head, z), y)
    found = dice.expected_reward(head, z, reward, y, None)
    torch.testing.assert_close(found, rewards.mean(dim=0))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("reparameterised", {"num_samples": 0}, "num_samples=0; it must be at least 1"),
        ("dice", {"num_samples": 1}, "num_samples=1; it must be at least 2"),
        ("score_function", {"num_samples": 1}, "baseline 'leave_one_out' needs at least 2"),
        ("score_function", {"baseline": "median"}, "unknown baseline 'median'; allowed: none, me"),
        ("score_function", {"clip": 0.0}, r"clip=0\.0; it must lie between 0 and 1"),
        ("score_function", {"clip": 1.0}, r"clip=1\.0; it must lie between 0 and 1"),
        ("dice", {"seed": -1}, "seed=-1; it must be at least 0"),
    ],
)
def test_impossible_settings(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'.*{message}"):
        ESTIMATORS[name](**settings)
