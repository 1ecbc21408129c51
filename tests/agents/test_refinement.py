"""Gradient ascent from the best plans of a search."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.planning import (
    CEMConfig,
    ICEMConfig,
    MPPIConfig,
    Planner,
    Propagation,
    RandomShootingConfig,
    Refined,
    RefinementConfig,
    TrajectorySampler,
    make_planner,
)
from mbrl_agents.planning.config import AnyPlannerConfig
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import ModelConfig, NLLConfig
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.errors import ConfigError
from tests.agents.known_returns import (
    BOX,
    BOX_TARGETS,
    DISCRETE,
    HORIZON,
    Recorder,
    distance_to,
    generator,
)

CPU = torch.device("cpu")
SEARCHES: dict[str, AnyPlannerConfig] = {
    "cem": CEMConfig(horizon=HORIZON, population_size=12, num_iterations=2, num_elites=4),
    "icem": ICEMConfig(horizon=HORIZON, population_size=12, num_iterations=2, num_elites=4),
    "mppi": MPPIConfig(horizon=HORIZON, population_size=12, num_iterations=2),
    "random_shooting": RandomShootingConfig(horizon=HORIZON, population_size=12),
}
EACH_SEARCH = pytest.mark.parametrize("name", sorted(SEARCHES))


def make(name: str, **settings: Any) -> tuple[Planner, Planner]:
    """The search alone, and with refinement."""
    config = SEARCHES[name]
    refined = config.model_copy(update={"refinement": RefinementConfig(**settings)})
    return make_planner(config, BOX, CPU), make_planner(refined, BOX, CPU)


@EACH_SEARCH
def test_refinement_finds_what_the_search_alone_does_not(name: str) -> None:
    evaluate = distance_to(BOX_TARGETS)
    search, refined = make(name, num_steps=60, lr=0.05)
    found, _ = search.plan(evaluate, search.initial_state(2), generator())
    plan, _ = refined.plan(evaluate, refined.initial_state(2), generator())
    assert (evaluate(found[:, None]) < -0.3).all()
    torch.testing.assert_close(plan, BOX_TARGETS, atol=0.05, rtol=0.0)


@EACH_SEARCH
def test_plans_stay_within_the_bounds(name: str) -> None:
    _, refined = make(name, num_steps=60, lr=0.1)
    target = torch.full((1, HORIZON, 2), 1.5)
    plan, _ = refined.plan(distance_to(target), refined.initial_state(1), generator())
    torch.testing.assert_close(plan, torch.ones_like(plan), atol=1e-3, rtol=0.0)
    assert plan.max() <= 1.0


def rough(plans: Tensor) -> Tensor:
    """Returns whose gradient leads astray, more often than not."""
    return (20 * plans).sin().sum(dim=(2, 3)) - plans.square().sum(dim=(2, 3))


@EACH_SEARCH
@pytest.mark.parametrize("lr", [0.01, 0.5, 100.0])
def test_the_result_is_never_worse_than_that_of_the_search(name: str, lr: float) -> None:
    search, refined = make(name, num_steps=3, lr=lr)
    for seed in range(5):
        found, _ = search.plan(rough, search.initial_state(3), generator(seed))
        plan, _ = refined.plan(rough, refined.initial_state(3), generator(seed))
        assert (rough(plan[:, None]) >= rough(found[:, None])).all()


def test_the_best_plans_of_the_last_evaluation_are_refined_beside_the_result() -> None:
    _, refined = make("cem", num_steps=1, num_plans=3)
    assert isinstance(refined, Refined)
    recorder = Recorder(distance_to(BOX_TARGETS))
    refined.plan(recorder, refined.initial_state(2), generator())
    search, climb, judge = recorder.candidates[1:]
    centre, _ = refined.planner.plan(
        distance_to(BOX_TARGETS), refined.initial_state(2), generator()
    )
    for b in range(2):
        best = recorder.returns[1][b].topk(2).indices
        expected = torch.cat([centre[b : b + 1], search[b, best]])
        assert torch.equal(climb[b].detach(), expected)
        assert torch.equal(judge[b, :3], expected)
    assert judge.shape[1] == 6


def test_steps_are_those_of_adam() -> None:
    _, refined = make("random_shooting", num_steps=4, lr=0.02, num_plans=1)
    recorder = Recorder(distance_to(BOX_TARGETS))
    refined.plan(recorder, refined.initial_state(2), generator())
    judged = recorder.candidates[-1]
    plans = judged[:, :1].clone().requires_grad_()
    optimizer = torch.optim.Adam([plans], lr=0.02, maximize=True)
    for _ in range(4):
        optimizer.zero_grad()
        distance_to(BOX_TARGETS)(plans).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        plans.data.clamp_(-1.0, 1.0)
    torch.testing.assert_close(judged[:, 1:], plans.detach(), atol=1e-6, rtol=0.0)


@EACH_SEARCH
def test_a_batch_is_refined_as_its_observations_one_by_one(name: str) -> None:
    _, refined = make(name, num_steps=5)
    plans, state = refined.plan(distance_to(BOX_TARGETS), refined.initial_state(2), generator())
    for b in range(2):
        evaluate = distance_to(BOX_TARGETS[b : b + 1])
        plan, alone = refined.plan(evaluate, refined.initial_state(1), generator())
        torch.testing.assert_close(plan, plans[b : b + 1], atol=1e-5, rtol=0.0)
        row = vars(state.select(torch.tensor([b])))
        torch.testing.assert_close(vars(alone), row, atol=1e-5, rtol=0.0)


@EACH_SEARCH
def test_plans_that_cannot_be_judged_stay_where_they_are(name: str) -> None:
    search, refined = make(name)
    found, _ = search.plan(lambda p: p.sum(dim=(2, 3)).log(), search.initial_state(1), generator())

    def spoilt(plans: Tensor) -> Tensor:
        # Nan, with a gradient of nan, below zero; refining leads there.
        total = plans.sum(dim=(2, 3))
        return total.log() - 1e3 * total.sqrt()

    plan, state = refined.plan(spoilt, refined.initial_state(1), generator())
    assert plan.isfinite().all()
    assert state.center.isfinite().all()
    plan, _ = refined.plan(
        lambda plans: plans.sum(dim=(2, 3)) * torch.nan, refined.initial_state(1), generator()
    )
    expected, _ = search.plan(
        lambda plans: plans.sum(dim=(2, 3)) * torch.nan, search.initial_state(1), generator()
    )
    assert torch.equal(plan, expected)
    assert found.isfinite().all()


def test_a_gradient_that_is_nan_somewhere_leaves_the_others_to_climb() -> None:
    def evaluate(plans: Tensor) -> Tensor:
        # Never taken, but differentiated: the first action's gradient is nan.
        first = torch.where(plans[:, :, 0] > 2, (plans[:, :, 0] - 2).sqrt(), 0.0)
        return first.sum(dim=-1) + distance_to(BOX_TARGETS)(plans)

    search, refined = make("random_shooting", num_steps=60, lr=0.05, num_plans=1)
    found, _ = search.plan(evaluate, search.initial_state(2), generator())
    plan, _ = refined.plan(evaluate, refined.initial_state(2), generator())
    assert torch.equal(plan[:, 0], found[:, 0])
    torch.testing.assert_close(plan[:, 1:], BOX_TARGETS[:, 1:], atol=0.05, rtol=0.0)


def test_the_next_search_starts_from_a_refined_plan() -> None:
    _, refined = make("mppi", num_steps=60, lr=0.05)
    plan, state = refined.plan(distance_to(BOX_TARGETS), refined.initial_state(2), generator())
    assert torch.equal(state.center[:, :-1], plan[:, 1:])
    assert state.step == 1


def test_returns_that_no_plan_changes_are_left_alone() -> None:
    search, refined = make("icem")

    def evaluate(plans: Tensor) -> Tensor:
        return torch.ones(plans.shape[:2])

    found, _ = search.plan(evaluate, search.initial_state(2), generator())
    plan, _ = refined.plan(evaluate, refined.initial_state(2), generator())
    assert torch.equal(plan, found)


@EACH_SEARCH
def test_discrete_actions_are_refused(name: str) -> None:
    config = SEARCHES[name].model_copy(update={"refinement": RefinementConfig()})
    with pytest.raises(ConfigError, match=r"'planner\.refinement'.*Discrete actions: null"):
        make_planner(config, DISCRETE, CPU)


def small_model() -> DynamicsModel:
    return DynamicsModel(
        3,
        ActionCodec(spaces.Box(-1.0, 1.0, (2,))),
        ModelConfig(ensemble_size=3, hidden_sizes=[16]),
        make_objective(NLLConfig(), 3, 4),
        learns_reward=True,
        learns_termination=False,
        generator=generator(),
    )


@pytest.mark.parametrize("propagation", ["ts1", "tsinf", "mean"])
def test_gradients_of_returns_are_those_of_central_differences(propagation: Propagation) -> None:
    sampler = TrajectorySampler(small_model().double(), None, None, 4, propagation)
    obs = torch.randn(2, 3, generator=generator(1), dtype=torch.float64)
    plans = torch.rand(2, 2, HORIZON, 2, generator=generator(2), dtype=torch.float64) - 0.5
    plans.requires_grad_()
    (gradient,) = torch.autograd.grad(sampler.returns(obs, plans, generator()).sum(), plans)
    step = torch.randn(plans.shape, generator=generator(3), dtype=torch.float64)
    up, down = (
        sampler.returns(obs, plans.detach() + sign * 1e-3 * step, generator()).sum()
        for sign in (1, -1)
    )
    # Returns are summed up in single precision.
    expected = (up - down).item() / 2e-3
    assert (gradient * step).sum().item() == pytest.approx(expected, rel=5e-3, abs=1e-3)
    assert all(parameter.grad is None for parameter in sampler.model.parameters())


def test_a_learned_model_is_climbed_even_in_inference_mode() -> None:
    sampler = TrajectorySampler(small_model(), None, None, 5, "ts1")
    obs = torch.randn(2, 3, generator=generator(1))
    search, refined = make("random_shooting", num_steps=20, lr=0.05)

    def best_return(planner: Planner) -> Tensor:
        gen = generator()
        plan, _ = planner.plan(
            lambda plans: sampler.returns(obs, plans, gen), planner.initial_state(2), gen
        )
        assert not plan.requires_grad
        return sampler.returns(obs, plan[:, None], generator(7))[:, 0]

    reached = best_return(refined)
    assert (reached > best_return(search) + 0.1).all()
    with torch.inference_mode():
        torch.testing.assert_close(best_return(refined), reached)
