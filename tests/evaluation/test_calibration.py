from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mbrl_bilevel.evaluation import Calibration, ensemble_moments, gaussian_calibration


def calibration_of(claimed_std: float, true_std: float) -> Calibration:
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(20_000, 3))
    target = mean + true_std * rng.normal(size=mean.shape)
    return gaussian_calibration(mean, np.full_like(mean, claimed_std), target)


def test_calibrated() -> None:
    result = calibration_of(claimed_std=0.5, true_std=0.5)
    np.testing.assert_allclose(result.observed, result.expected, atol=0.01)
    assert result.expected_calibration_error < 0.005
    assert result.sharpness == pytest.approx(0.5)
    assert result.observed_per_dim.shape == (19, 3)


def test_coverage_of_a_wrong_std_has_its_closed_form() -> None:
    # The interval of level p reaches z_p * claimed; it covers 2 Phi(z_p claimed / true) - 1.
    levels = [0.6826894921370859, 0.9544997361036416]  # one and two standard deviations
    rng = np.random.default_rng(1)
    target = rng.normal(size=(100_000, 1))
    overconfident = gaussian_calibration(0 * target, 0 * target + 0.5, target, levels)
    np.testing.assert_allclose(overconfident.observed, [0.3829, 0.6827], atol=0.005)
    underconfident = gaussian_calibration(0 * target, 0 * target + 2.0, target, levels)
    np.testing.assert_allclose(underconfident.observed, [0.9545, 0.99994], atol=0.005)


def test_over_and_underconfidence_differ_in_sign() -> None:
    overconfident = calibration_of(claimed_std=0.5, true_std=1.0)
    underconfident = calibration_of(claimed_std=1.0, true_std=0.5)
    assert (overconfident.observed < overconfident.expected).all()
    assert (underconfident.observed > underconfident.expected).all()
    assert overconfident.expected_calibration_error > 0.1
    assert underconfident.expected_calibration_error > 0.1


def test_dimensions_are_counted_apart() -> None:
    mean = np.zeros((4, 2))
    target = np.array([[0.1, 5.0], [0.1, 5.0], [0.1, 0.1], [5.0, 5.0]])
    result = gaussian_calibration(mean, np.ones((4, 2)), target, levels=[0.5])
    np.testing.assert_array_equal(result.observed_per_dim, [[0.75, 0.25]])
    np.testing.assert_array_equal(result.observed, [0.5])
    assert result.expected_calibration_error == 0.0


def test_tensors_are_accepted() -> None:
    zeros = torch.zeros(5, 2)
    result = gaussian_calibration(zeros, torch.ones(5, 2), zeros)
    np.testing.assert_array_equal(result.observed, np.ones(19))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": np.ones((3, 1))}, r"std must have the shape \(3, 2\) of mean, got \(3, 1\)"),
        ({"std": np.full((3, 2), -0.5)}, "std must not be negative, got -0.5"),
        ({"mean": np.zeros(3)}, r"mean must have 2 non-empty axes, got shape \(3,\)"),
        ({"target": np.array([[0, 0], [0, np.nan], [0, 0]])}, r"target .* nan at \(1, 1\)"),
        ({"levels": [0.5, 1.0]}, r"levels must be strictly between 0 and 1"),
        ({"levels": []}, r"levels must be strictly between 0 and 1"),
    ],
)
def test_bad_predictions_are_errors(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "mean": np.zeros((3, 2)),
        "std": np.ones((3, 2)),
        "target": np.zeros((3, 2)),
    }
    with pytest.raises(ValueError, match=message):
        gaussian_calibration(**(good | change))


def test_moments_of_the_mixture_match_its_samples() -> None:
    rng = np.random.default_rng(2)
    means = rng.normal(size=(5, 2, 3))
    variances = rng.uniform(0.1, 1.0, size=(5, 2, 3))
    noise = rng.normal(size=(40_000, 5, 2, 3))
    samples: NDArray[np.float64] = (means + np.sqrt(variances) * noise).reshape(-1, 2, 3)
    mean, std = ensemble_moments(means, variances)
    np.testing.assert_allclose(mean, samples.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(std, samples.std(axis=0), rtol=0.02)


def test_one_member_is_its_own_mixture() -> None:
    mean, std = ensemble_moments([[[1.0, 2.0]]], [[[4.0, 9.0]]])
    np.testing.assert_array_equal(mean, [[1.0, 2.0]])
    np.testing.assert_array_equal(std, [[2.0, 3.0]])


def test_bad_members_are_errors() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3, 1\) of means, got \(2, 1, 1\)"):
        ensemble_moments(np.zeros((2, 3, 1)), np.zeros((2, 1, 1)))
    with pytest.raises(ValueError, match="variances must not be negative"):
        ensemble_moments(np.zeros((1, 1, 1)), -np.ones((1, 1, 1)))
