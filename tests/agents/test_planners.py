"""Planners on returns whose best plan is known."""

import pytest
import torch
from torch import Tensor

from mbrl_agents.planning import (
    CEM,
    ICEM,
    MPPI,
    CEMConfig,
    ICEMConfig,
    MPPIConfig,
    Planner,
    RandomShooting,
    RandomShootingConfig,
    make_planner,
)
from mbrl_agents.planning.base import finite_returns, shift
from mbrl_agents.planning.config import AnyPlannerConfig
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

CONFIGS: dict[str, AnyPlannerConfig] = {
    "cem": CEMConfig(horizon=HORIZON, population_size=300, num_iterations=10, num_elites=20),
    "icem": ICEMConfig(
        horizon=HORIZON,
        population_size=300,
        num_iterations=10,
        num_elites=20,
        noise_beta=0.5,
        population_decay=1.0,
    ),
    "mppi": MPPIConfig(
        horizon=HORIZON,
        population_size=800,
        num_iterations=12,
        temperature=0.1,
        noise_beta=0.0,
        initial_std=0.3,
    ),
    "random_shooting": RandomShootingConfig(horizon=HORIZON, population_size=1000),
}
ALL = sorted(CONFIGS)
REFINING = ["cem", "icem", "mppi"]


def make(name: str, codec: ActionCodec = BOX) -> Planner:
    return make_planner(CONFIGS[name], codec, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cem", CEM), ("icem", ICEM), ("mppi", MPPI), ("random_shooting", RandomShooting)],
)
def test_make_planner_takes_the_class_by_the_settings(name: str, expected: type) -> None:
    planner = make(name)
    assert type(planner) is expected
    assert planner.horizon == HORIZON


@pytest.mark.parametrize("name", REFINING)
def test_the_best_continuous_plan_is_found(name: str) -> None:
    planner = make(name)
    plan, _ = planner.plan(distance_to(BOX_TARGETS), planner.initial_state(2), generator())
    torch.testing.assert_close(plan, BOX_TARGETS, atol=0.1, rtol=0.0)


@pytest.mark.parametrize("name", REFINING)
def test_an_optimum_out_of_bounds_is_sought_at_the_bound(name: str) -> None:
    planner = make(name)
    target = torch.full((1, HORIZON, 2), 1.5)
    plan, _ = planner.plan(distance_to(target), planner.initial_state(1), generator())
    torch.testing.assert_close(plan, torch.ones_like(plan), atol=0.1, rtol=0.0)
    assert plan.max() <= 1.0


@pytest.mark.parametrize("name", ALL)
def test_the_best_discrete_sequence_is_found(name: str) -> None:
    planner = make(name, DISCRETE)
    plan, _ = planner.plan(distance_to(DISCRETE_TARGETS), planner.initial_state(2), generator())
    assert torch.equal(plan, DISCRETE_TARGETS)


def test_random_shooting_returns_the_best_plan_that_it_drew_for_each_observation() -> None:
    planner = make("random_shooting")
    recorder = Recorder(distance_to(BOX_TARGETS))
    plan, state = planner.plan(recorder, planner.initial_state(2), generator())
    (candidates,), (returns,) = recorder.candidates, recorder.returns
    assert candidates.shape == (2, 1000, HORIZON, 2)
    assert candidates.abs().max() <= 1.0
    for b in range(2):
        assert torch.equal(plan[b], candidates[b, returns[b].argmax()])
    assert torch.equal(state.center, planner.initial_state(2).center)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("codec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_a_batch_is_planned_as_its_observations_one_by_one(name: str, codec: ActionCodec) -> None:
    targets = BOX_TARGETS if codec is BOX else DISCRETE_TARGETS
    targets = torch.cat([targets, targets.flip(1)])
    planner = make(name, codec)
    batch_generator = generator()
    single_generators = [generator() for _ in targets]
    batch_state = planner.initial_state(len(targets))
    single_states = [planner.initial_state(1) for _ in targets]
    for _ in range(2):  # the second time from where the first one ended
        plans, batch_state = planner.plan(distance_to(targets), batch_state, batch_generator)
        for b, gen in enumerate(single_generators):
            target = targets[b : b + 1]
            plan, single_states[b] = planner.plan(distance_to(target), single_states[b], gen)
            torch.testing.assert_close(plan, plans[b : b + 1], atol=1e-5, rtol=0.0)
            row = batch_state.select(torch.tensor([b]))
            torch.testing.assert_close(vars(single_states[b]), vars(row), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_plans_that_cannot_be_judged_are_never_chosen(name: str, bad: float) -> None:
    # Half of the plans are bad, the best ones among them. As 0 they would beat all others.
    target = torch.full((1, HORIZON, 2), 0.6)

    def evaluate(plans: Tensor) -> Tensor:
        returns = distance_to(target)(plans)
        return torch.where(plans[:, :, 0, 0] > 0, bad, returns)

    planner = make(name)
    state, gen = planner.initial_state(1), generator()
    for _ in range(3):
        plan, state = planner.plan(evaluate, state, gen)
        assert plan[0, 0, 0] <= 0
        # What is not spoilt is still optimised.
        assert plan[0, 1:].mean() > 0.2


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("codec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_if_no_plan_can_be_judged_a_possible_one_comes_out(name: str, codec: ActionCodec) -> None:
    planner = make(name, codec)
    state, gen = planner.initial_state(2), generator()
    for _ in range(2):
        plan, state = planner.plan(lambda plans: plans.sum(dim=(2, 3)) * torch.nan, state, gen)
        assert plan.shape == (2, HORIZON, codec.size)
        assert plan.isfinite().all()
        assert state.center.isfinite().all()
        assert plan.abs().max() <= 1.0
        if codec is DISCRETE:
            assert (plan.sum(dim=-1) == 1).all()


@pytest.mark.parametrize("name", REFINING)
def test_after_steps_without_any_judgement_the_search_recovers(name: str) -> None:
    planner = make(name)
    gen = generator()
    _, state = planner.plan(lambda p: p.sum(dim=(2, 3)) * torch.nan, planner.initial_state(2), gen)
    plan, _ = planner.plan(distance_to(BOX_TARGETS), state, gen)
    torch.testing.assert_close(plan, BOX_TARGETS, atol=0.3, rtol=0.0)


def test_a_row_without_judgement_does_not_disturb_the_others() -> None:
    def evaluate(plans: Tensor) -> Tensor:
        returns = distance_to(BOX_TARGETS)(plans)
        returns[1] = torch.nan
        return returns

    for name in ALL:
        planner = make(name)
        plan, _ = planner.plan(evaluate, planner.initial_state(2), generator())
        alone, _ = planner.plan(distance_to(BOX_TARGETS[:1]), planner.initial_state(1), generator())
        torch.testing.assert_close(plan[:1], alone, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("name", ALL)
def test_the_generator_decides(name: str) -> None:
    planner = make(name)

    def first_plan(seed: int) -> Tensor:
        # Few enough candidates for luck to show.
        return planner.plan(distance_to(BOX_TARGETS), planner.initial_state(2), generator(seed))[0]

    assert torch.equal(first_plan(1), first_plan(1))
    assert not torch.equal(first_plan(1), first_plan(2))


@pytest.mark.parametrize("name", ALL)
def test_the_given_state_is_left_alone_and_steps_are_counted(name: str) -> None:
    planner = make(name)
    state = planner.initial_state(2)
    before = state.center.clone(), state.elites.clone()
    _, following = planner.plan(distance_to(BOX_TARGETS), state, generator())
    assert torch.equal(state.center, before[0])
    assert torch.equal(state.elites, before[1])
    assert (state.step, following.step) == (0, 1)
    assert following.center.shape == state.center.shape
    assert following.elites.shape == state.elites.shape


def test_cem_refits_to_the_elites_and_returns_the_centre() -> None:
    config = CEMConfig(horizon=2, population_size=6, num_iterations=1, num_elites=2, momentum=0.25)
    planner = make_planner(config, BOX, torch.device("cpu"))
    recorder = Recorder(distance_to(torch.full((1, 2, 2), 0.5)))
    plan, state = planner.plan(recorder, planner.initial_state(1), generator())
    best = recorder.returns[0][0].topk(2).indices
    expected = 0.75 * recorder.candidates[0][0, best].mean(dim=0)  # the old centre is 0
    torch.testing.assert_close(plan[0], expected)
    # The next search starts there, one step on, with nothing known of the new last step.
    torch.testing.assert_close(state.center[0], torch.stack([expected[1], torch.zeros(2)]))


def test_the_next_search_starts_where_the_last_one_ended() -> None:
    config = CEMConfig(horizon=4, population_size=40, num_iterations=3, num_elites=4)
    planner = make_planner(config, BOX, torch.device("cpu"))
    evaluate = distance_to(torch.full((1, 4, 2), 0.9))
    _, state = planner.plan(evaluate, planner.initial_state(1), generator())
    from_state, from_nothing = (
        planner.plan(evaluate, start, generator(1))[0]
        for start in (state, planner.initial_state(1))
    )
    assert evaluate(from_state[:, None]) > evaluate(from_nothing[:, None])


def test_returns_that_are_not_finite_are_the_worst() -> None:
    returns = torch.tensor([[1.0, torch.nan, -torch.inf, torch.inf, -1e30]])
    worst = -torch.inf
    assert torch.equal(finite_returns(returns), torch.tensor([[1.0, worst, worst, worst, -1e30]]))


def test_shift_moves_plans_one_step_on() -> None:
    plans = torch.arange(6.0).reshape(1, 3, 2)
    filler = torch.full((1, 3, 2), 9.0)
    expected = torch.tensor([[[2.0, 3.0], [4.0, 5.0], [9.0, 9.0]]])
    assert torch.equal(shift(plans, filler), expected)
    assert torch.equal(shift(plans[None], filler[None]), expected[None])
    assert torch.equal(shift(plans[:, :1], filler[:, :1]), filler[:, :1])
