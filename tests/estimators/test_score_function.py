"""The score-function estimator: bias and variance of its baselines, and PPO's clip.

A row of outputs, repeated, gives as many independent estimates of one gradient.
"""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.estimators import Analytic, Baseline, Reparameterised, ScoreFunction
from mbrl_bilevel.heads import CategoricalHead, DiagonalGaussianHead, Head
from mbrl_bilevel.rewards import MahalanobisReward, OneHotReward, Reward

K, REPEATS = 4, 40_000
GAUSSIAN = (
    DiagonalGaussianHead(2),
    MahalanobisReward(2, "full", torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)),
    torch.tensor([0.5, -1.0, 0.2, -0.4], dtype=torch.float64),
    torch.tensor([1.0, 1.0], dtype=torch.float64),
)
CATEGORICAL = (
    CategoricalHead(3),
    OneHotReward(3, "diagonal", torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).diag()),
    torch.tensor([0.3, -0.5, 0.1], dtype=torch.float64),
    torch.tensor(2),
)
Setting = tuple[Head, Reward, Tensor, Tensor]
EACH = pytest.mark.parametrize("setting", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])


def gradients(setting: Setting, baseline: Baseline) -> Tensor:
    """Independent estimates of the gradient, `[REPEATS, n]`."""
    head, reward, outputs, y = setting
    z = outputs.repeat(REPEATS, 1).requires_grad_()
    y = y.expand(REPEATS, *y.shape)
    expected = ScoreFunction(K, baseline=baseline).expected_reward(head, z, reward, y, None)
    return torch.autograd.grad(expected.sum(), z)[0]


def exact_gradient(setting: Setting) -> Tensor:
    head, reward, outputs, y = setting
    z = outputs[None].requires_grad_()
    expected = Analytic().expected_reward(head, z, reward, y[None], None)
    return torch.autograd.grad(expected.sum(), z)[0][0]


@EACH
@pytest.mark.parametrize(
    ("baseline", "factor"), [("none", 1.0), ("leave_one_out", 1.0), ("mean", (K - 1) / K)]
)
def test_the_mean_gradient_is_the_exact_one(
    setting: Setting, baseline: Baseline, factor: float
) -> None:
    found = gradients(setting, baseline)
    standard_error = found.std(dim=0) / REPEATS**0.5
    exact = exact_gradient(setting)
    assert ((found.mean(dim=0) - factor * exact).abs() <= 4 * standard_error).all()
    # Precise enough to tell a factor of (K - 1) / K from none.
    assert standard_error.norm() <= 0.05 * exact.norm()


@EACH
def test_the_mean_baseline_is_leave_one_out_shrunk(setting: Setting) -> None:
    shrunk = gradients(setting, "leave_one_out") * (K - 1) / K
    torch.testing.assert_close(gradients(setting, "mean"), shrunk)


@EACH
def test_a_baseline_lowers_the_variance(setting: Setting) -> None:
    variance = {
        baseline: gradients(setting, baseline).var(dim=0).sum()
        for baseline in ("none", "leave_one_out", "mean")
    }
    assert variance["leave_one_out"] < 0.8 * variance["none"]
    assert variance["mean"] < variance["leave_one_out"]


def test_samples_through_the_reward_vary_least() -> None:
    head, reward, outputs, y = GAUSSIAN
    z = outputs.repeat(REPEATS, 1).requires_grad_()
    expected = Reparameterised(K).expected_reward(head, z, reward, y.expand(REPEATS, -1), None)
    found = torch.autograd.grad(expected.sum(), z)[0]
    assert found.var(dim=0).sum() < gradients(GAUSSIAN, "leave_one_out").var(dim=0).sum()


@EACH
def test_group_normalisation_is_blind_to_the_rewards_scale(setting: Setting) -> None:
    """The logarithms of U's scales go up by as much: all rewards grow by one factor."""
    _, reward, _, _ = setting
    original = gradients(setting, "group_normalised")
    larger = {name: p + 1.5 if "log" in name else p for name, p in reward.outer_params().items()}
    found = reward.using(larger, lambda _reward: gradients(setting, "group_normalised"))
    torch.testing.assert_close(found, original, rtol=1e-5, atol=1e-5)
    plain = reward.using(larger, lambda _reward: gradients(setting, "leave_one_out"))
    assert plain.norm() > 2 * gradients(setting, "leave_one_out").norm()


@EACH
def test_the_value_is_the_mean_reward_and_the_rewards_own_gradient_is_right(
    setting: Setting,
) -> None:
    head, reward, outputs, y = setting
    estimator = ScoreFunction(K)
    z = outputs.repeat(5, 1).requires_grad_()
    samples = estimator.draw(head, z).detach()
    target = y.expand(5, *y.shape)
    mean_reward = reward(samples, target).mean(dim=0)
    found = estimator.expected_reward(head, z, reward, target, None)
    torch.testing.assert_close(found, mean_reward)
    parameters = list(reward.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), parameters),
        torch.autograd.grad(mean_reward.sum(), parameters),
    )


class TestClip:
    """Ratios of `p(y_hat | z)` to `p(y_hat | behaviour)` for one Gaussian, two samples a row."""

    def gradient(self, clip: float | None, shift: float) -> tuple[Tensor, Tensor, Tensor]:
        """Each row's gradient, ratios `[2, N]` and advantages `[2, N]`."""
        head, reward = DiagonalGaussianHead(1), MahalanobisReward(1).double()
        behaviour = torch.zeros(1000, 2, dtype=torch.float64)
        z = (behaviour + shift).requires_grad_()
        y = torch.ones(1000, 1, dtype=torch.float64)
        estimator = ScoreFunction(2, clip=clip)
        expected = estimator.expected_reward(head, z, reward, y, None, behaviour)
        (found,) = torch.autograd.grad(expected.sum(), z)
        samples = estimator.draw(head, behaviour)
        rewards = reward(samples, y).detach()
        ratios = (head.log_prob(z, samples) - head.log_prob(behaviour, samples)).exp()
        return found, ratios.detach(), rewards - rewards.flip(0)

    def test_it_is_zero_where_clipped(self) -> None:
        found, ratios, advantages = self.gradient(clip=0.2, shift=0.4)
        clipped = ((ratios > 1.2) & (advantages > 0)) | ((ratios < 0.8) & (advantages < 0))
        both, neither = clipped.all(dim=0), ~clipped.any(dim=0)
        assert both.sum() > 20
        assert neither.sum() > 20
        assert torch.equal(found[both], torch.zeros_like(found[both]))
        unclipped, _, _ = self.gradient(clip=None, shift=0.4)
        torch.testing.assert_close(found[neither], unclipped[neither])
        assert (unclipped[both].abs().sum(dim=-1) > 0).all()

    def test_a_wide_range_clips_nothing(self) -> None:
        found, ratios, _ = self.gradient(clip=0.9, shift=0.05)
        assert ratios.max() < 1.9
        torch.testing.assert_close(found, self.gradient(clip=None, shift=0.05)[0])

    def test_without_a_behaviour_every_ratio_is_one(self) -> None:
        head, reward, outputs, y = GAUSSIAN
        results = []
        for clip in (None, 0.2):
            z = outputs.repeat(20, 1).requires_grad_()
            estimator = ScoreFunction(K, clip=clip)
            expected = estimator.expected_reward(head, z, reward, y.expand(20, -1), None)
            results.append(torch.autograd.grad(expected.sum(), z)[0])
        assert torch.equal(*results)
