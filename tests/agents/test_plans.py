import pytest
import torch
from torch import Tensor

from mbrl_agents.planning.noise import colored_noise
from mbrl_agents.planning.plans import PROBABILITY_FLOOR, CategoricalPlans, GaussianPlans

CPU = torch.device("cpu")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_one_hot(plans: Tensor) -> None:
    assert ((plans == 0) | (plans == 1)).all()
    assert (plans.sum(dim=-1) == 1).all()


def test_gaussian_plans_are_centre_plus_spread_times_noise_clipped() -> None:
    plans = GaussianPlans(1, 0.5, CPU)
    center = torch.tensor([[[0.0], [0.5]], [[-0.5], [0.9]]])  # [B=2, H=2, A=1]
    spread = torch.tensor([[[1.0], [0.1]], [[2.0], [0.0]]])
    noise = torch.tensor([[[0.5], [1.0]], [[-3.0], [-2.0]]])  # [C=2, H, A]
    sampled = plans.sample(center, spread, noise)
    expected = torch.tensor([[[0.5, 0.6], [-1.0, 0.3]], [[0.5, 0.9], [-1.0, 0.9]]])[..., None]
    torch.testing.assert_close(sampled, expected)


def test_gaussian_prior() -> None:
    plans = GaussianPlans(3, 0.7, CPU)
    center = plans.prior_center(2, 4)
    assert torch.equal(center, torch.zeros(2, 4, 3))
    assert torch.equal(plans.prior_spread(center), torch.full((2, 4, 3), 0.7))
    assert torch.equal(plans.as_plan(center), center)


def test_gaussian_refit_is_the_elites_mean_and_std_mixed_with_the_old_ones() -> None:
    plans = GaussianPlans(1, 0.5, CPU)
    elites = torch.tensor([[[[0.2]], [[0.6]]]])  # [B=1, K=2, H=1, A=1]
    old_center, old_spread = torch.tensor([[[-1.0]]]), torch.tensor([[[0.5]]])
    center, spread = plans.refit(elites, old_center, old_spread, 0.25)
    assert center.item() == pytest.approx(0.75 * 0.4 - 0.25 * 1.0)
    assert spread.item() == pytest.approx(0.75 * 0.2 + 0.25 * 0.5)


def test_gaussian_uniform_fills_the_range_evenly_and_alike_for_all_observations() -> None:
    sampled = GaussianPlans(2, 0.5, CPU).uniform(randn(20_000, 1, 2), batch_size=3)
    assert sampled.shape == (3, 20_000, 1, 2)
    assert torch.equal(sampled[0], sampled[2])
    assert sampled.abs().max() <= 1
    for share in (0.1, 0.5, 0.9):
        quantile = torch.quantile(sampled[0].flatten(), share).item()
        assert quantile == pytest.approx(2 * share - 1, abs=0.02)


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_categorical_samples_follow_the_probabilities_whatever_the_noise(beta: float) -> None:
    plans = CategoricalPlans(3, CPU)
    center = torch.tensor([[[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], [[1 / 3] * 3, [0.05, 0.9, 0.05]]])
    noise = colored_noise(20_000, 2, 3, beta, torch.Generator().manual_seed(0))
    sampled = plans.sample(center, torch.zeros_like(center), noise)
    assert sampled.shape == (2, 20_000, 2, 3)
    assert_one_hot(sampled)
    torch.testing.assert_close(sampled.mean(dim=1), center, atol=0.02, rtol=0.0)


def test_categorical_uniform_draws_every_action_equally_often() -> None:
    sampled = CategoricalPlans(4, CPU).uniform(randn(20_000, 2, 4), batch_size=2)
    assert_one_hot(sampled)
    torch.testing.assert_close(
        sampled.mean(dim=1), torch.full((2, 2, 4), 0.25), atol=0.02, rtol=0.0
    )


def test_correlated_noise_makes_categorical_plans_persist() -> None:
    def repeats(beta: float) -> float:
        noise = colored_noise(2_000, 20, 2, beta, torch.Generator().manual_seed(0))
        action = CategoricalPlans(2, CPU).uniform(noise, 1)[0].argmax(dim=-1)
        return (action[:, 1:] == action[:, :-1]).float().mean().item()

    assert repeats(0.0) == pytest.approx(0.5, abs=0.02)
    assert repeats(2.0) > 0.7


def test_categorical_refit_mixes_frequencies_the_old_ones_and_the_uniform_floor() -> None:
    plans = CategoricalPlans(2, CPU)
    elites = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]]])
    old = torch.tensor([[[0.5, 0.5]]])
    center, _ = plans.refit(elites, old, torch.zeros_like(old), 0.2)
    first = (1 - PROBABILITY_FLOOR) * (0.8 * 1.0 + 0.2 * 0.5) + PROBABILITY_FLOOR * 0.5
    torch.testing.assert_close(center, torch.tensor([[[first, 1 - first]]]))


def test_no_action_dies_out_however_often_the_distribution_is_refitted() -> None:
    plans = CategoricalPlans(4, CPU)
    center = plans.prior_center(1, 1)
    elites = torch.nn.functional.one_hot(torch.zeros(1, 5, 1, dtype=torch.long), 4).float()
    for _ in range(50):
        center, _ = plans.refit(elites, center, center, 0.0)
    assert center.min().item() == pytest.approx(PROBABILITY_FLOOR / 4)
    assert center.sum().item() == pytest.approx(1.0)


def test_the_categorical_plan_is_the_likeliest_action_of_each_step() -> None:
    center = torch.tensor([[[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]])
    plan = CategoricalPlans(3, CPU).as_plan(center)
    assert torch.equal(plan, torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]))
