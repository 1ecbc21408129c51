"""Errors, likelihoods and calibration against closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from mbrl_bilevel.evaluation import (
    GaussianMixture,
    dynamics_metrics,
    error_metrics,
    gaussian_calibration,
    interval_width,
    mixture_calibration,
    negative_log_likelihood,
    persistence_error,
)

E, N, D = 3, 40, 2


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def diagonal() -> GaussianMixture:
    return GaussianMixture(randn(E, N, D), log_var=randn(E, N, D, seed=1))


@pytest.fixture
def full() -> GaussianMixture:
    factor = randn(E, N, D, D, seed=2).tril(-1) + torch.diag_embed(randn(E, N, D, seed=3).exp())
    return GaussianMixture(randn(E, N, D), scale_tril=factor)


@pytest.fixture
def target() -> Tensor:
    return randn(N, D, seed=4)


def correlated(std: tuple[float, float], correlation: float) -> Tensor:
    """The Cholesky factor of a covariance of two dimensions."""
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]])
    scale = torch.tensor(std)
    return torch.linalg.cholesky(covariance * scale[:, None] * scale)


class TestLikelihood:
    def test_of_a_single_diagonal_gaussian(self, diagonal: GaussianMixture, target: Tensor) -> None:
        assert diagonal.log_var is not None
        single = GaussianMixture(diagonal.mean[:1], log_var=diagonal.log_var[:1])
        std = (0.5 * diagonal.log_var[0].double()).exp()
        log_prob = Normal(diagonal.mean[0].double(), std).log_prob(target.double())
        expected = -float(log_prob.sum(dim=1).mean()) / D
        assert negative_log_likelihood(single, target) == pytest.approx(expected)
        torch.testing.assert_close(single.marginal_log_prob(target), log_prob)
        result = dynamics_metrics(single, target, torch.ones(D))
        assert result.nll == pytest.approx(result.nll_per_dim.mean())

    def test_of_a_mixture_is_that_of_the_joint_density(
        self, diagonal: GaussianMixture, target: Tensor
    ) -> None:
        assert diagonal.log_var is not None
        std = (0.5 * diagonal.log_var.double()).exp()
        components = Independent(Normal(diagonal.mean.double(), std), 1)
        density = components.log_prob(target.double()).exp().mean(dim=0)
        torch.testing.assert_close(diagonal.log_prob(target), density.log())
        # Which member was right is one question for all dimensions, not one a dimension.
        marginals = diagonal.marginal_log_prob(target).sum(dim=1)
        assert not torch.allclose(marginals, diagonal.log_prob(target))

    def test_of_full_covariances(self, full: GaussianMixture, target: Tensor) -> None:
        assert full.scale_tril is not None
        components = MultivariateNormal(full.mean.double(), scale_tril=full.scale_tril.double())
        density = components.log_prob(target.double()).exp().mean(dim=0)
        torch.testing.assert_close(full.log_prob(target), density.log())
        std = components.variance.sqrt()
        torch.testing.assert_close(full.component_std(), std)
        marginal = Normal(full.mean.double(), std).log_prob(target.double()).exp().mean(dim=0)
        torch.testing.assert_close(full.marginal_log_prob(target), marginal.log())

    def test_a_full_covariance_without_correlation_is_a_diagonal_one(
        self, diagonal: GaussianMixture, target: Tensor
    ) -> None:
        assert diagonal.log_var is not None
        factor = torch.diag_embed((0.5 * diagonal.log_var).exp())
        full = GaussianMixture(diagonal.mean, scale_tril=factor)
        torch.testing.assert_close(full.log_prob(target), diagonal.log_prob(target))
        torch.testing.assert_close(full.cdf(target), diagonal.cdf(target))

    def test_correlation_counts(self) -> None:
        generator = torch.Generator().manual_seed(0)
        factor = correlated((1.0, 2.0), 0.9)
        target = torch.randn(20_000, 2, generator=generator) @ factor.T
        mean = torch.zeros(1, 20_000, 2)
        joint = GaussianMixture(mean, scale_tril=factor.expand(1, 20_000, 2, 2))
        marginals = GaussianMixture(mean, log_var=torch.tensor([1.0, 4.0]).log().expand_as(mean))
        entropy = 0.5 * (2 * (1 + math.log(2 * math.pi)) + math.log(4 * (1 - 0.81)))
        assert negative_log_likelihood(joint, target) == pytest.approx(entropy / 2, abs=0.02)
        gap = negative_log_likelihood(marginals, target) - negative_log_likelihood(joint, target)
        assert gap == pytest.approx(-0.25 * math.log(1 - 0.81), abs=0.02)

    def test_far_targets_do_not_underflow(self) -> None:
        mixture = GaussianMixture(torch.zeros(2, 1, 1), log_var=torch.full((2, 1, 1), -10.0))
        far = torch.tensor([[50.0]])
        expected = 0.5 * (math.log(2 * math.pi) - 10 + 2500 * math.exp(10))
        assert negative_log_likelihood(mixture, far) == pytest.approx(expected)

    def test_in_raw_units_is_that_of_the_rescaled_prediction(
        self, diagonal: GaussianMixture, full: GaussianMixture, target: Tensor
    ) -> None:
        scale = torch.tensor([0.1, 7.0])
        assert diagonal.log_var is not None
        assert full.scale_tril is not None
        raw_diagonal = GaussianMixture(
            diagonal.mean * scale, log_var=diagonal.log_var + 2 * scale.log()
        )
        raw_full = GaussianMixture(full.mean * scale, scale_tril=scale[:, None] * full.scale_tril)
        for mixture, raw in ((diagonal, raw_diagonal), (full, raw_full)):
            result = dynamics_metrics(mixture, target, scale)
            assert result.nll_raw == pytest.approx(
                negative_log_likelihood(raw, target * scale), rel=1e-5
            )


class TestErrors:
    def test_are_of_the_mean_of_the_mixture(
        self, diagonal: GaussianMixture, target: Tensor
    ) -> None:
        scale = torch.tensor([0.1, 7.0])
        result = dynamics_metrics(diagonal, target, scale).error
        error = (diagonal.mean.mean(dim=0) - target).numpy()
        assert result.rmse == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)
        np.testing.assert_allclose(result.rmse_per_dim, np.sqrt((error**2).mean(0)), rtol=1e-5)
        raw = error * scale.numpy()
        assert result.rmse_raw == pytest.approx(math.sqrt((raw**2).mean()), rel=1e-5)
        np.testing.assert_allclose(result.rmse_per_dim_raw, np.sqrt((raw**2).mean(0)), rtol=1e-5)

    def test_of_no_error(self) -> None:
        result = error_metrics(torch.zeros(5, 3), torch.ones(3))
        assert (result.rmse, result.rmse_raw) == (0, 0)

    def test_of_persistence(self) -> None:
        obs = torch.tensor([[0.0, 10.0], [1.0, 20.0]])
        next_obs = obs + torch.tensor([[3.0, -20.0], [4.0, 0.0]])
        result = persistence_error(obs, next_obs, torch.tensor([1.0, 10.0]))
        np.testing.assert_allclose(result.rmse_per_dim, np.sqrt([12.5, 2.0]))
        np.testing.assert_allclose(result.rmse_per_dim_raw, np.sqrt([12.5, 200.0]))
        assert result.rmse == pytest.approx(math.sqrt(14.5 / 2))


class TestQuantiles:
    def test_of_a_single_gaussian(self) -> None:
        mixture = GaussianMixture(torch.full((1, 1, 1), 2.0), log_var=torch.full((1, 1, 1), 2.0))
        expected = 2 + math.e * torch.special.ndtri(torch.tensor(0.9)).item()
        assert mixture.quantile(0.9).item() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("probability", [0.001, 0.05, 0.5, 0.8, 0.975])
    def test_invert_the_cumulative_probability(
        self, probability: float, diagonal: GaussianMixture, full: GaussianMixture
    ) -> None:
        for mixture in (diagonal, full):
            at_quantile = mixture.cdf(mixture.quantile(probability))
            torch.testing.assert_close(at_quantile, torch.full_like(at_quantile, probability))

    def test_are_those_of_samples(self) -> None:
        # Two peaks, one narrow: nothing like a Gaussian of the same mean and variance.
        mean = torch.tensor([-3.0, 1.0])[:, None, None]
        log_var = torch.tensor([0.01, 1.0]).log()[:, None, None]
        mixture = GaussianMixture(mean, log_var=log_var)
        noise = randn(200_000, 2)
        samples = torch.cat([-3 + 0.1 * noise[:, 0], 1 + noise[:, 1]])
        for probability in (0.05, 0.25, 0.75, 0.95):
            expected = float(np.quantile(samples.numpy(), probability))
            assert mixture.quantile(probability).item() == pytest.approx(expected, abs=0.02)

    def test_probabilities_are_between_0_and_1(self, diagonal: GaussianMixture) -> None:
        with pytest.raises(ValueError, match="strictly between 0 and 1, got 1"):
            diagonal.quantile(1.0)


class TestCalibration:
    def test_of_a_single_gaussian_is_the_one_for_gaussians(self, target: Tensor) -> None:
        mean, log_var = randn(1, N, D), randn(1, N, D, seed=1)
        found = mixture_calibration(GaussianMixture(mean, log_var=log_var), target)
        expected = gaussian_calibration(mean[0], (0.5 * log_var[0]).exp(), target)
        np.testing.assert_array_equal(found.observed_per_dim, expected.observed_per_dim)
        assert found.expected_calibration_error == expected.expected_calibration_error
        assert found.sharpness == pytest.approx(expected.sharpness)

    def test_covered_is_what_lies_between_the_quantiles(
        self, diagonal: GaussianMixture, full: GaussianMixture, target: Tensor
    ) -> None:
        for mixture in (diagonal, full):
            found = mixture_calibration(mixture, target, levels=[0.3, 0.9])
            for row, level in enumerate((0.3, 0.9)):
                low = mixture.quantile((1 - level) / 2)
                high = mixture.quantile((1 + level) / 2)
                inside = (low <= target) & (target <= high)
                np.testing.assert_allclose(
                    found.observed_per_dim[row], inside.double().mean(dim=0).numpy()
                )
                assert interval_width(mixture, level) == pytest.approx(float((high - low).mean()))

    def test_samples_of_the_mixture_are_covered_as_claimed(self) -> None:
        # Members that disagree by more than their noise: a Gaussian of the same moments would
        # cover too much at 50 % and too little in the tails.
        count = 20_000
        mean = torch.tensor([-3.0, 0.0, 3.0])[:, None, None].expand(3, count, 1)
        mixture = GaussianMixture(mean, log_var=torch.full((3, count, 1), -4.0))
        generator = torch.Generator().manual_seed(0)
        member = torch.randint(3, (count,), generator=generator)
        noise = torch.randn(count, 1, generator=generator)
        target = mean[member, torch.arange(count)] + math.exp(-2) * noise
        result = dynamics_metrics(mixture, target, torch.ones(1))
        assert result.coverage == pytest.approx({0.5: 0.5, 0.9: 0.9, 0.95: 0.95}, abs=0.015)
        assert result.calibration.expected_calibration_error < 0.01
        moments = gaussian_calibration(mixture.mixture_mean(), mixture.mixture_std(), target)
        assert moments.expected_calibration_error > 0.1

    def test_sharpness_has_noise_and_disagreement(self) -> None:
        mean = torch.tensor([-1.0, 1.0])[:, None, None]
        mixture = GaussianMixture(mean, log_var=torch.zeros(2, 1, 1))
        found = mixture_calibration(mixture, torch.zeros(1, 1))
        assert found.sharpness == pytest.approx(math.sqrt(2))

    def test_levels_are_checked(self, diagonal: GaussianMixture, target: Tensor) -> None:
        with pytest.raises(ValueError, match="levels must be strictly between 0 and 1"):
            mixture_calibration(diagonal, target, levels=[0.5, 1.0])


def test_the_report_is_plain_and_named_as_agreed(full: GaussianMixture, target: Tensor) -> None:
    report = dynamics_metrics(full, target, torch.ones(D)).to_dict()
    assert report.keys() == {
        *("rmse", "rmse_raw", "rmse_per_dim", "rmse_per_dim_raw", "nll", "nll_raw"),
        *("nll_per_dim", "ece", "sharpness", "coverage_50", "coverage_90", "coverage_95"),
        "interval_width_90",
    }
    assert len(report["nll_per_dim"]) == D
    assert all(isinstance(v, float | list) for v in report.values())
    assert report["interval_width_90"] == interval_width(full, 0.9)


def test_large_data_give_the_same_in_parts(full: GaussianMixture, target: Tensor) -> None:
    assert full.scale_tril is not None
    many = GaussianMixture(
        full.mean.repeat(1, 250, 1), scale_tril=full.scale_tril.repeat(1, 250, 1, 1)
    )
    found = many.log_prob(target.repeat(250, 1))
    torch.testing.assert_close(found, full.log_prob(target).repeat(250))


class TestWrongShapes:
    def test_of_the_distribution(self) -> None:
        mean = torch.zeros(2, 3, 4)
        with pytest.raises(ValueError, match="either log_var or scale_tril"):
            GaussianMixture(mean)
        with pytest.raises(ValueError, match="either log_var or scale_tril"):
            GaussianMixture(mean, log_var=mean, scale_tril=torch.zeros(2, 3, 4, 4))
        with pytest.raises(ValueError, match=r"mean must be \[E, N, D\] and not empty"):
            GaussianMixture(mean[0], log_var=mean[0])
        with pytest.raises(ValueError, match=r"log_var must have the shape \(2, 3, 4\)"):
            GaussianMixture(mean, log_var=mean[:1])
        with pytest.raises(ValueError, match=r"scale_tril must have the shape \(2, 3, 4, 4\)"):
            GaussianMixture(mean, scale_tril=mean)
        with pytest.raises(ValueError, match="log_var has values that are not finite"):
            GaussianMixture(mean, log_var=mean + math.inf)

    def test_of_the_target(self, diagonal: GaussianMixture, target: Tensor) -> None:
        with pytest.raises(ValueError, match=r"target must have the shape \(40, 2\), got \(39, 2"):
            diagonal.log_prob(target[1:])
        with pytest.raises(ValueError, match="target has values that are not finite"):
            diagonal.cdf(target * math.nan)
