"""What sets MPPI apart: a soft average of all plans."""

import math

import pytest
import torch
from pydantic import ValidationError

from mbrl_agents.planning import MPPIConfig, make_planner
from mbrl_agents.planning.mppi import return_weights
from mbrl_agents.planning.plans import PROBABILITY_FLOOR
from tests.agents.known_returns import (
    BOX,
    BOX_TARGETS,
    DISCRETE,
    DISCRETE_TARGETS,
    HORIZON,
    Recorder,
    distance_to,
    generator,
)

CPU = torch.device("cpu")
ONCE = MPPIConfig(horizon=HORIZON, population_size=30, num_iterations=1, temperature=0.5)


def plain_weights(returns: list[float], temperature: float) -> list[float]:
    finite = [value for value in returns if math.isfinite(value)]
    mean = sum(finite) / len(finite)
    std = math.sqrt(sum((value - mean) ** 2 for value in finite) / len(finite))
    weights = [
        math.exp((value - mean) / (temperature * std)) if math.isfinite(value) else 0.0
        for value in returns
    ]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_weights_are_those_of_a_plain_loop(temperature: float) -> None:
    returns = torch.randn(4, 25, generator=generator())
    returns[1, ::3] = -torch.inf
    found = return_weights(returns, temperature)
    for row, weights in zip(returns.tolist(), found, strict=True):
        assert weights.tolist() == pytest.approx(plain_weights(row, temperature), abs=1e-6)


def test_neither_the_unit_nor_the_origin_of_returns_matters() -> None:
    returns = torch.randn(3, 40, generator=generator())
    expected = return_weights(returns, 0.3)
    torch.testing.assert_close(return_weights(1000 * returns - 50, 0.3), expected)
    torch.testing.assert_close(return_weights(1e-6 * returns, 0.3), expected)


@pytest.mark.parametrize("value", [0.0, -1.7e5, 0.1])
def test_equally_good_plans_weigh_the_same(value: float) -> None:
    weights = return_weights(torch.full((1, 7), value), 0.01)
    torch.testing.assert_close(weights, torch.full((1, 7), 1 / 7))


def test_what_cannot_be_judged_weighs_nothing() -> None:
    worst = -torch.inf
    weights = return_weights(torch.tensor([[worst, 1.0, worst], [worst, worst, worst]]), 0.5)
    assert weights.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_the_colder_the_more_the_best_plan_counts() -> None:
    returns = torch.randn(1, 30, generator=generator())
    best = returns.argmax()
    shares = [return_weights(returns, t)[0, best].item() for t in (100.0, 1.0, 0.1, 0.001)]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / 30, rel=0.1)
    assert shares[-1] == pytest.approx(1.0, abs=1e-3)


def test_the_result_is_the_weighted_average_and_the_next_search_starts_from_it() -> None:
    planner = make_planner(ONCE, BOX, CPU)
    recorder = Recorder(distance_to(BOX_TARGETS))
    plan, state = planner.plan(recorder, planner.initial_state(2), generator())
    for b in range(2):
        weights = plain_weights(recorder.returns[0][b].tolist(), 0.5)
        expected = torch.zeros(HORIZON, 2)
        for weight, candidate in zip(weights, recorder.candidates[0][b], strict=True):
            expected += weight * candidate
        torch.testing.assert_close(plan[b], expected, atol=1e-5, rtol=0.0)
        shifted = torch.cat([expected[1:], torch.zeros(1, 2)])
        torch.testing.assert_close(state.center[b], shifted, atol=1e-5, rtol=0.0)


def test_discrete_plans_are_averaged_to_probabilities() -> None:
    planner = make_planner(ONCE, DISCRETE, CPU)
    recorder = Recorder(distance_to(DISCRETE_TARGETS))
    plan, state = planner.plan(recorder, planner.initial_state(2), generator())
    for b in range(2):
        weights = torch.tensor(plain_weights(recorder.returns[0][b].tolist(), 0.5))
        shares = (weights[:, None, None] * recorder.candidates[0][b]).sum(dim=0)
        # No action dies out.
        shares = (1 - PROBABILITY_FLOOR) * shares + PROBABILITY_FLOOR / 3
        torch.testing.assert_close(state.center[b, :-1], shares[1:], atol=1e-5, rtol=0.0)
        assert torch.equal(plan[b].argmax(dim=-1), shares.argmax(dim=-1))


@pytest.mark.parametrize("codec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_without_any_judgement_the_centre_stays(codec: object) -> None:
    planner = make_planner(ONCE, codec, CPU)  # type: ignore[arg-type]
    start = planner.initial_state(2)
    _, state = planner.plan(lambda plans: plans.sum(dim=(2, 3)) * torch.nan, start, generator())
    torch.testing.assert_close(state.center, start.center)


def test_plans_are_smooth_if_the_noise_is_red() -> None:
    def roughness(beta: float) -> float:
        config = MPPIConfig(horizon=20, population_size=200, num_iterations=1, noise_beta=beta)
        planner = make_planner(config, BOX, CPU)
        recorder = Recorder(distance_to(torch.zeros(1, 20, 2)))
        planner.plan(recorder, planner.initial_state(1), generator())
        return recorder.candidates[0].diff(dim=2).abs().mean().item()

    assert roughness(2.0) < 0.6 * roughness(0.0)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        MPPIConfig(temperature=0.0)
