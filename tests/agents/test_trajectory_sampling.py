"""Trajectory sampling against a plain loop, in a model that reveals who moved whom."""

from collections import Counter
from typing import cast

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.planning import Propagation, TerminalValue, TrajectorySampler, scoring
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import ModelConfig, NLLConfig
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import DynamicsModel
from tests.agents.revealing import (
    ELITES,
    HORIZON,
    PROPAGATIONS,
    RevealingModel,
    ValueOfPosition,
    box_model,
    generator,
    plain_returns,
    sampler,
    start_and_plans,
)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("num_particles", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("steps_at_a_time", [1, 2, HORIZON])
@pytest.mark.parametrize("with_value", [False, True])
def test_returns_are_those_of_a_plain_loop(
    propagation: Propagation,
    num_particles: int,
    steps_at_a_time: int,
    with_value: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Six plans of two numbers for each particle.
    monkeypatch.setattr(scoring, "BLOCK_NUMBERS", steps_at_a_time * num_particles * 12)
    model = box_model()
    obs, plans = start_and_plans()
    judge = sampler(model, num_particles, propagation)
    judge.terminal_value = cast(TerminalValue, ValueOfPosition()) if with_value else None
    returns = judge.returns(obs, plans, generator())
    expected = plain_returns(obs, plans, model, propagation, with_value=with_value)
    torch.testing.assert_close(returns, expected)


def test_a_terminal_value_counts_for_plans_that_do_not_end_and_discounts_rewards() -> None:
    obs = torch.tensor([[0.0, 0.2]])
    plans = torch.tensor([[[[0.1], [0.1]], [[0.5], [0.1]]]])  # features; the second one ends
    value = cast(TerminalValue, ValueOfPosition())
    judge = TrajectorySampler(
        cast(DynamicsModel, box_model()),
        reward_fn=lambda _obs, _action, next_obs: next_obs[..., 1],
        termination_fn=lambda _obs, _action, next_obs: next_obs[..., 1] > 0.6,
        num_particles=3,
        propagation="mean",
        terminal_value=value,
    )
    expected = [0.3 + 0.9 * 0.4 + 0.81 * 10 * 0.4, 0.7]
    assert judge.returns(obs, plans, generator())[0].tolist() == pytest.approx(expected)


def test_imagining_asks_every_elite_for_every_action_in_every_state() -> None:
    judge = sampler(box_model(), 3, "mean")
    obs = torch.tensor([[0.0, 0.2], [0.0, 0.5]])
    actions = torch.tensor([[[0.1], [0.2]], [[0.4], [0.6]]])  # [K, N, A]
    found = judge.imagine(obs, actions)
    positions = obs[:, 1] + actions[..., 0]
    assert found.next_obs.shape == (len(ELITES), 2, 2, 2)
    for e, member in enumerate(ELITES):
        torch.testing.assert_close(found.next_obs[e, ..., 1], positions)
        assert (found.next_obs[e, ..., 0] == member).all()
        # Actions reach the reward in the environment's units, twice the features.
        expected = obs[:, 1] - 2 * actions[..., 0] + 0.3 * positions + member
        torch.testing.assert_close(found.rewards[e], expected)
        assert found.terminated[e].tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_nan_beyond_the_end_is_harmless(propagation: Propagation) -> None:
    obs, plans = start_and_plans()
    model = box_model(edge=1.0)
    returns = sampler(model, 6, propagation).returns(obs, plans, generator())
    last = model.calls[-1][3]
    assert 0 < last[..., 1].isnan().float().mean() < 1
    endless = sampler(box_model(), 6, propagation).returns(obs, plans, generator())
    assert returns.isfinite().all()
    torch.testing.assert_close(returns, endless)


def test_nan_before_the_end_spoils_the_return_of_its_plan_alone() -> None:
    model = box_model(edge=1.0)
    obs = torch.zeros(1, 2)
    plans = torch.tensor([[[0.4] * HORIZON, [0.1] * HORIZON]])[..., None]
    returns = sampler(model, 3, "mean", termination_fn=None).returns(obs, plans, generator())
    assert returns[0, 0].isnan()
    assert returns[0, 1].isfinite()


def test_the_step_that_terminates_still_pays() -> None:
    model = box_model()
    obs = torch.tensor([[0.0, 0.9]])
    plans = torch.tensor([[[[0.2]], [[0.0]]]]).expand(1, 2, 1, 1)
    returns = sampler(
        model, 1, "mean", reward_fn=lambda o, a, n: n[..., 1] + 0 * (o + a)[..., 0]
    ).returns(obs, plans.reshape(1, 2, 1, 1), generator())
    torch.testing.assert_close(returns, torch.tensor([[1.1, 0.9]]))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("num_particles", [1, 2, 3, 6, 7])
def test_every_elite_moves_equally_many_particles_at_every_step(
    propagation: Propagation, num_particles: int
) -> None:
    trajectories = sampler(box_model(), num_particles, propagation).trajectories(
        torch.zeros(2, dtype=torch.float64), torch.zeros(HORIZON, 1), generator()
    )
    for t in range(HORIZON):
        members = (trajectories[:, t + 1, 0] % 10).int().tolist()
        counts = [Counter(members)[elite] for elite in ELITES]
        assert sum(counts) == num_particles
        assert max(counts) - min(counts) <= 1


def test_with_ts1_particles_meet_new_members_at_each_step() -> None:
    horizon = 12
    trajectories = sampler(box_model(), 6, "ts1").trajectories(
        torch.zeros(2, dtype=torch.float64), torch.zeros(horizon, 1), generator()
    )
    members = (trajectories[:, 1:, 0] % 10).int()
    for particle in members:
        assert set(particle.tolist()) == set(ELITES)
    # A change at two steps of three is what independent draws of three members would give.
    changes = (members[:, 1:] != members[:, :-1]).float().mean()
    assert 0.45 < changes < 0.9


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_returns_are_judged_by_the_same_propagation(propagation: Propagation) -> None:
    model = box_model()
    sampler(model, 6, propagation).returns(*start_and_plans(), generator())
    trails = model.calls[-1][3][:, 0, 0]
    digits = torch.stack([torch.div(trails, 10**k, rounding_mode="floor") % 10 for k in range(5)])
    keep_theirs = (digits == digits[0]).all(dim=0)
    if propagation == "ts1":
        assert not keep_theirs.all()
    else:
        assert keep_theirs.all()


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_particles_of_a_member_are_side_by_side(propagation: Propagation) -> None:
    model = box_model()
    sampler(model, 7, propagation).returns(*start_and_plans(), generator())
    assert model.rows.tolist() == sorted(model.rows.tolist())


@pytest.mark.parametrize("propagation", ["tsinf", "mean"])
def test_otherwise_particles_keep_their_member(propagation: Propagation) -> None:
    trajectories = sampler(box_model(), 6, propagation).trajectories(
        torch.zeros(2, dtype=torch.float64), torch.zeros(HORIZON, 1), generator()
    )
    members = trajectories[:, 1:, 0] % 10
    assert torch.equal(members, members[:, :1].expand_as(members))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_with_fewer_particles_than_elites_luck_decides_which_are_used(
    propagation: Propagation,
) -> None:
    model = box_model()
    obs, plans = start_and_plans()
    used = set()
    for seed in range(20):
        sampler(model, 2, propagation).returns(obs, plans, generator(seed))
        assert len(set(model.rows.tolist())) == 2
        used.update(model.rows.tolist())
    assert used == set(ELITES)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_only_mean_propagation_is_without_noise(propagation: Propagation) -> None:
    model = box_model()
    sampler(model, 200, propagation).returns(*start_and_plans(), generator())
    noises = [noise for _, _, noise, _ in model.calls]
    if propagation == "mean":
        assert noises == [None] * HORIZON
        return
    drawn = torch.stack([noise for noise in noises if noise is not None])
    assert drawn.shape == (HORIZON, 200, 1, 2)
    assert drawn.mean().abs() < 0.1
    assert drawn.std().item() == pytest.approx(1.0, abs=0.1)
    # New noise at every step and for every particle.
    assert len(set(drawn.flatten().tolist())) > 0.99 * drawn.numel()


def test_without_noise_only_the_members_matter() -> None:
    obs, plans = start_and_plans()
    first, second = (
        sampler(box_model(), 6, "mean").returns(obs, plans, generator(seed)) for seed in (0, 1)
    )
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_all_plans_and_observations_share_members_and_noise(propagation: Propagation) -> None:
    model = box_model()
    obs, plans = start_and_plans()
    obs, plans = obs[:1].expand(3, -1), plans[:1, :1].expand(3, 4, -1, -1)
    returns = sampler(model, 4, propagation).returns(obs, plans, generator())
    assert torch.equal(returns, returns[0, 0].expand(3, 4))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_neither_the_order_of_plans_nor_their_company_matters(propagation: Propagation) -> None:
    obs, plans = start_and_plans(2, 5)
    planning = sampler(box_model(), 4, propagation)
    returns = planning.returns(obs, plans, generator())
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(planning.returns(obs, plans[:, order], generator()), returns[:, order])
    assert torch.equal(planning.returns(obs, plans[:, 1:3], generator()), returns[:, 1:3])
    assert torch.equal(planning.returns(obs[1:], plans[1:], generator()), returns[1:])


def test_the_generator_decides() -> None:
    obs, plans = start_and_plans()
    planning = sampler(box_model(), 4, "ts1")
    first = planning.returns(obs, plans, generator(3))
    assert torch.equal(planning.returns(obs, plans, generator(3)), first)
    assert not torch.equal(planning.returns(obs, plans, generator(4)), first)


def test_learned_reward_and_termination_replace_the_exact_ones() -> None:
    model = box_model()
    seen: list[float] = []

    def learned_termination(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        seen.append(action[0, 0, 0].item())
        return next_obs[..., 1] > 0.5 + 0 * obs[..., 0]

    model.termination = learned_termination
    obs = torch.tensor([[0.0, 0.0]])
    plans = torch.tensor([[[0.2, 0.2, 0.2, 0.2, 0.2]]])[..., None]
    planning = sampler(model, 3, "mean", reward_fn=None, termination_fn=None)
    returns = planning.returns(obs, plans, generator())
    # 0 + 0.2 + 0.4, the third step arrives beyond 0.5.
    torch.testing.assert_close(returns, torch.tensor([[0.6]]))
    # The classifier takes features, not the environment's units.
    assert seen == pytest.approx([0.2])


def test_without_any_termination_all_steps_count() -> None:
    obs = torch.tensor([[0.0, 0.0]])
    plans = torch.full((1, 1, HORIZON, 1), 0.5)
    planning = sampler(box_model(), 3, "mean", reward_fn=None, termination_fn=None)
    torch.testing.assert_close(planning.returns(obs, plans, generator()), torch.tensor([[5.0]]))


def test_discrete_actions_reach_reward_and_termination_as_the_environments_indices() -> None:
    model = RevealingModel(ActionCodec(spaces.Discrete(3, start=5)))
    plans = torch.nn.functional.one_hot(torch.tensor([[[0, 2, 1], [1, 1, 2]]]), 3).float()
    seen: list[Tensor] = []

    def indices_as_reward(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        assert action.dtype == torch.int64
        assert obs.shape == next_obs.shape == (*action.shape, 2)
        seen.append(action)
        return action.float()

    def never(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        assert torch.equal(action, seen[-1])
        return torch.zeros(next_obs.shape[:-1], dtype=torch.bool) & (obs[..., 0] > 0)

    returns = sampler(model, 2, "ts1", indices_as_reward, never).returns(
        torch.zeros(1, 2), plans, generator()
    )
    torch.testing.assert_close(returns, torch.tensor([[18.0, 19.0]]))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_trajectories_start_at_the_observation_and_stay_whole(propagation: Propagation) -> None:
    start = torch.tensor([0.0, 0.3], dtype=torch.float64)
    actions = torch.linspace(-0.5, 0.5, HORIZON, dtype=torch.float64)[:, None]
    model = box_model()
    trajectories = sampler(model, 7, propagation).trajectories(start, actions, generator())
    assert trajectories.shape == (7, HORIZON + 1, 2)
    assert torch.equal(trajectories[:, 0], start.expand(7, -1))
    trail = trajectories[..., 0]
    # What a particle went through before is part of its trail.
    assert torch.equal(torch.div(trail[:, 1:], 10, rounding_mode="floor"), trail[:, :-1])
    if propagation == "mean":
        expected = 0.3 + torch.cat([torch.zeros(1).double(), actions[:, 0].cumsum(dim=0)])
        torch.testing.assert_close(trajectories[..., 1], expected.expand(7, -1))
    else:
        assert len(set(trajectories[:, -1, 1].tolist())) == 7


def real_model() -> DynamicsModel:
    return DynamicsModel(
        3,
        ActionCodec(spaces.Box(-1.0, 1.0, (2,))),
        ModelConfig(ensemble_size=3, hidden_sizes=[16]),
        make_objective(NLLConfig(), 3, 4),
        learns_reward=True,
        learns_termination=True,
        generator=generator(),
    )


def test_a_held_sampler_judges_alike_and_by_the_model_as_it_was() -> None:
    model = real_model()
    obs = torch.randn(2, 3, generator=generator())
    plans = torch.rand(2, 6, HORIZON, 2, generator=generator()) * 2 - 1
    for propagation in PROPAGATIONS:
        planning = TrajectorySampler(model, None, None, 5, propagation)
        held = planning.held()
        before = planning.returns(obs, plans, generator())
        assert torch.equal(held.returns(obs, plans, generator()), before)
        with torch.no_grad():
            model.network.weights[0] += 0.1
        assert torch.equal(held.returns(obs, plans, generator()), before)
        after = planning.returns(obs, plans, generator())
        assert not torch.equal(after, before)
        assert torch.equal(planning.held().returns(obs, plans, generator()), after)


def test_a_real_model_plans_a_batch_as_its_observations_one_by_one() -> None:
    model = real_model()
    obs = torch.randn(4, 3, generator=generator())
    plans = torch.rand(4, 6, HORIZON, 2, generator=generator()) * 2 - 1
    for propagation in PROPAGATIONS:
        planning = TrajectorySampler(model, None, None, 5, propagation)
        returns = planning.returns(obs, plans, generator())
        assert not returns.requires_grad
        assert returns.std() > 0.01
        for b in range(4):
            alone = planning.returns(obs[b : b + 1], plans[b : b + 1], generator())
            torch.testing.assert_close(returns[b : b + 1], alone, atol=1e-5, rtol=1e-5)
