"""What iCEM adds to CEM."""

import pytest
import torch
from torch import Tensor

from mbrl_agents.planning import (
    ICEMConfig,
    Planner,
    make_planner,
)
from mbrl_bilevel.data import ActionCodec
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

ICEM_CONFIG = ICEMConfig(
    horizon=HORIZON,
    population_size=40,
    num_iterations=4,
    num_elites=6,
    kept_elites=0.5,
    population_decay=2.0,
)


def icem_rounds(planner: Planner, codec: ActionCodec) -> tuple[list[Recorder], list[Tensor]]:
    """Plan twice in a row; the recorder and the plans of either."""
    targets = BOX_TARGETS if codec is BOX else DISCRETE_TARGETS
    # So that no two plans have the same return.
    weights = torch.rand(HORIZON, codec.size, generator=generator(9))

    def evaluate(plans: Tensor) -> Tensor:
        return -(weights * (plans - targets[:, None]).square()).sum(dim=(2, 3))

    state, gen = planner.initial_state(2), generator()
    recorders, plans = [], []
    for _ in range(2):
        recorder = Recorder(evaluate)
        plan, state = planner.plan(recorder, state, gen)
        recorders.append(recorder)
        plans.append(plan)
    return recorders, plans


def contains(candidates: Tensor, plan: Tensor) -> bool:
    return bool((candidates == plan).all(dim=(-1, -2)).any())


def test_icem_draws_fewer_plans_in_each_iteration_but_twice_the_elites_at_least() -> None:
    planner = make_planner(ICEM_CONFIG, BOX, torch.device("cpu"))
    (first, _), _ = icem_rounds(planner, BOX)
    # 40, 20, 12 (not 10), 12 (not 5) drawn, 3 kept elites and the centre each.
    assert [c.shape[1] for c in first.candidates] == [44, 24, 16, 16]


@pytest.mark.parametrize("codec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_icem_keeps_elites_from_iteration_to_iteration_and_from_step_to_step(
    codec: ActionCodec,
) -> None:
    planner = make_planner(ICEM_CONFIG, codec, torch.device("cpu"))
    recorders, _ = icem_rounds(planner, codec)
    for b in range(2):
        for recorder in recorders:
            for i in range(3):
                best = recorder.returns[i][b].topk(3).indices
                for elite in recorder.candidates[i][b, best]:
                    assert contains(recorder.candidates[i + 1][b], elite)
        last = recorders[0].candidates[-1][b, recorders[0].returns[-1][b].topk(3).indices]
        for elite in last:
            shifted = torch.cat([elite[1:], elite[-1:]])
            assert contains(recorders[1].candidates[0][b], shifted)


@pytest.mark.parametrize("codec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_icem_returns_the_best_plan_of_all_iterations(codec: ActionCodec) -> None:
    planner = make_planner(ICEM_CONFIG, codec, torch.device("cpu"))
    for recorder, plans in zip(*icem_rounds(planner, codec), strict=True):
        for b in range(2):
            best = max(returns[b].max().item() for returns in recorder.returns)
            returned = recorder.evaluate(plans[:, None])[b, 0].item()
            assert returned == pytest.approx(best, abs=1e-6)


def test_icem_returns_a_plan_that_only_the_first_iteration_valued() -> None:
    planner = make_planner(ICEM_CONFIG, BOX, torch.device("cpu"))
    calls = 0

    def evaluate(plans: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        returns = torch.zeros(plans.shape[:2])
        if calls == 1:
            returns[:, 7] = 1.0
        return returns

    recorder = Recorder(evaluate)
    plan, _ = planner.plan(recorder, planner.initial_state(1), generator())
    assert torch.equal(plan, recorder.candidates[0][:, 7])


def test_icem_tries_the_centre_in_every_iteration() -> None:
    # One elite and no momentum: the centre is the best plan of the iteration before.
    config = ICEMConfig(
        horizon=2, population_size=8, num_iterations=3, num_elites=1, kept_elites=0.0, momentum=0.0
    )
    planner = make_planner(config, BOX, torch.device("cpu"))
    recorder = Recorder(distance_to(torch.full((1, 2, 2), 0.5)))
    planner.plan(recorder, planner.initial_state(1), generator())
    assert torch.equal(recorder.candidates[0][0, -1], torch.zeros(2, 2))
    for i in range(2):
        best = recorder.candidates[i][0, recorder.returns[i][0].argmax()]
        assert torch.equal(recorder.candidates[i + 1][0, -1], best)


def test_icem_takes_the_centre_where_all_plans_are_equally_good() -> None:
    planner = make_planner(ICEM_CONFIG, BOX, torch.device("cpu"))
    recorder = Recorder(lambda plans: torch.ones(plans.shape[:2]))
    plan, _ = planner.plan(recorder, planner.initial_state(1), generator())
    assert torch.equal(plan, recorder.candidates[-1][:, -1])


def test_icem_plans_smoothly_if_its_noise_is_red() -> None:
    def roughness(beta: float) -> float:
        config = ICEMConfig(horizon=20, population_size=200, num_iterations=1, noise_beta=beta)
        planner = make_planner(config, BOX, torch.device("cpu"))
        recorder = Recorder(distance_to(torch.zeros(1, 20, 2)))
        planner.plan(recorder, planner.initial_state(1), generator())
        return recorder.candidates[0].diff(dim=2).abs().mean().item()

    assert roughness(2.0) < 0.6 * roughness(0.0)
