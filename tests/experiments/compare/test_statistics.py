"""Aggregates and their intervals: known values, plain loops, and what is stratified."""

import itertools

import numpy as np
import pytest

from mbrl_bilevel.experiments.compare.statistics import (
    AGGREGATES,
    estimate,
    improvement,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
)

RNG = np.random.default_rng(0)
SCORES = [RNG.normal(0.5, 0.3, 6), RNG.normal(0.9, 0.2, 6), RNG.normal(0.1, 0.1, 5)]
OTHERS = [RNG.normal(0.6, 0.3, 5), RNG.normal(0.8, 0.2, 5), RNG.normal(0.1, 0.1, 5)]


def test_the_interquartile_mean_is_that_of_the_middle_half_of_all_tasks() -> None:
    assert interquartile_mean(np.arange(4.0), np.array([100.0, -50.0, 2.0, 3.0])) == pytest.approx(
        np.mean([1.0, 2.0, 2.0, 3.0])
    )


def test_mean_median_and_gap_of_known_scores() -> None:
    scores = [np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([0.2, 0.2])]
    assert mean(*scores) == pytest.approx((0.5 + 2.0 + 0.2) / 3)
    assert median(*scores) == pytest.approx(0.5)
    assert optimality_gap(*scores) == pytest.approx((0.5 + 0.0 + 0.8) / 3)


def test_the_probability_of_improvement_counts_all_pairs() -> None:
    expected = np.mean(
        [
            np.mean([(a > b) + 0.5 * (a == b) for a, b in itertools.product(x, y)])
            for x, y in zip(SCORES, OTHERS, strict=True)
        ]
    )
    assert improvement(*SCORES, *OTHERS) == pytest.approx(expected)
    assert improvement(np.ones(3), np.ones(2)) == 0.5


@pytest.mark.parametrize("statistic", [*AGGREGATES.values()])
def test_resamples_side_by_side_are_those_one_by_one(statistic: object) -> None:
    assert callable(statistic)
    batch = [np.stack([sample, sample[::-1] + 0.1]) for sample in SCORES]
    for number in range(2):
        alone = statistic(*(sample[number] for sample in batch))
        assert statistic(*batch, axis=-1)[number] == pytest.approx(float(alone))


def test_intervals_are_those_of_resampling_within_each_task() -> None:
    """Against a plain loop, within what 4,000 resamples leave open."""
    found = estimate(interquartile_mean, SCORES, 4000)
    draws = np.random.default_rng(1)
    plain = [
        float(interquartile_mean(*(draws.choice(sample, len(sample)) for sample in SCORES)))
        for _ in range(4000)
    ]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert found.value == pytest.approx(float(interquartile_mean(*SCORES)))
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert estimate(interquartile_mean, SCORES, 4000) == found


def test_tasks_are_not_mixed() -> None:
    """Seeds that agree within a task leave no doubt, however far the tasks are apart."""
    found = estimate(mean, [np.zeros(5), np.ones(5)], 500)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_one_seed_has_no_interval() -> None:
    found = estimate(mean, [np.array([0.3]), np.array([0.5])], 100)
    assert found.value == pytest.approx(0.4)
    assert np.isnan(found.low)
    assert np.isnan(found.high)
