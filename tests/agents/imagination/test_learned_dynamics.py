"""Grouped steps of an ensemble against a plain loop over environments and their members."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.imagination import DynamicsOptions, ImaginedStep, LearnedDynamics
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import BilevelConfig, ModelConfig, NLLConfig
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import DynamicsModel, MemberModels, fast_layers
from mbrl_bilevel.errors import ConfigError

ELITES = [4, 1, 3]
OBS_SIZE = 3
CODEC = ActionCodec(spaces.Box(-2.0, 2.0, (2,)))
ALL_MEMBERS: DynamicsOptions = {"uncertainty_penalty": 0.5}


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    return obs[..., 0] - 2 * action[..., 1] + 3 * next_obs[..., 2]


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    return next_obs[..., 0] - obs[..., 1] > action[..., 0]


def make_model(
    objective: NLLConfig | BilevelConfig | None = None,
    *,
    learns_reward: bool = False,
    learns_termination: bool = False,
) -> DynamicsModel:
    """Five members that differ, in units that differ, of which three are elite."""
    generator = torch.Generator().manual_seed(0)
    size = DynamicsModel.target_size(OBS_SIZE, learns_reward)
    model = DynamicsModel(
        OBS_SIZE,
        CODEC,
        ModelConfig(ensemble_size=5, num_elite_members=3, hidden_sizes=[8]),
        make_objective(objective or NLLConfig(), 5, size),
        learns_reward=learns_reward,
        learns_termination=learns_termination,
        generator=generator,
    )
    model.elite_indices.copy_(torch.tensor(ELITES))
    model.input_normalizer.fit(2 + 3 * torch.randn(50, OBS_SIZE + 2, generator=generator))
    scale = torch.arange(1.0, 1.0 + size)
    model.target_normalizer.fit(scale * torch.randn(50, size, generator=generator))
    return model


def inputs(num_envs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(num_envs, OBS_SIZE, generator=generator)
    return obs, 2 * torch.rand(num_envs, 2, generator=generator) - 1


def step(dynamics: LearnedDynamics, num_envs: int, seed: int = 2) -> ImaginedStep:
    return dynamics.step(*inputs(num_envs), torch.Generator().manual_seed(seed))


@torch.no_grad()
def one_by_one(
    model: DynamicsModel, num_envs: int, *, deterministic: bool = False, seed: int = 2
) -> ImaginedStep:
    """The same step, environment after environment; uncertainty is the own member's."""
    generator = torch.Generator().manual_seed(seed)
    group_size = -(-num_envs // len(ELITES))
    slots = torch.randperm(len(ELITES) * group_size, generator=generator).tolist()
    noise = torch.zeros(num_envs, OBS_SIZE)
    if not deterministic:
        noise = torch.randn(num_envs, OBS_SIZE, generator=generator)
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for obs, action, slot, eps in zip(*inputs(num_envs), slots[:num_envs], noise, strict=True):
        member = model.members(torch.tensor([ELITES[slot // group_size]]))
        prediction = member.predict(torch.cat([obs, action])[None, None])
        mean, log_var = prediction.mean[0, 0], prediction.log_var[0, 0]
        next_obs = obs + mean[:OBS_SIZE] + (0.5 * log_var[:OBS_SIZE]).exp() * eps
        env_action = 2 * action  # what -1..1 stands for in -2..2
        learned = mean[OBS_SIZE] if model.learns_reward else None
        reward = reward_fn(obs, env_action, next_obs) if learned is None else learned
        terminated = termination_fn(obs, env_action, next_obs)
        rows.append((next_obs, reward, terminated, (0.5 * log_var).exp().norm()))
    return ImaginedStep(*(torch.stack(column) for column in zip(*rows, strict=True)))


def assert_close(first: ImaginedStep, second: ImaginedStep) -> None:
    for name in ("next_obs", "reward", "terminated", "uncertainty"):
        torch.testing.assert_close(
            getattr(first, name), getattr(second, name), rtol=1e-4, atol=1e-4, msg=name
        )


class CountsRows:
    """Stands in for the members and counts what they predict."""

    def __init__(self, members: MemberModels) -> None:
        self.members = members
        self.num_rows = 0

    def moments(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        self.num_rows += rows.shape[0] * rows.shape[1]
        return self.members.moments(rows)


@pytest.mark.parametrize("num_envs", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("objective", [NLLConfig(), BilevelConfig()])
def test_a_grouped_step_is_that_of_a_loop(
    num_envs: int, deterministic: bool, objective: NLLConfig | BilevelConfig
) -> None:
    model = make_model(objective)
    dynamics = LearnedDynamics(model, reward_fn, termination_fn, deterministic=deterministic)
    moved = step(dynamics, num_envs)
    assert_close(moved, one_by_one(model, num_envs, deterministic=deterministic))
    assert moved.terminated.dtype == torch.bool


def test_the_learned_reward_is_the_mean_of_the_member_that_moves() -> None:
    model = make_model(learns_reward=True)
    assert_close(
        step(LearnedDynamics(model, None, termination_fn), 7),
        one_by_one(model, 7),
    )


def test_a_step_predicts_once_for_each_environment() -> None:
    dynamics = LearnedDynamics(make_model(), reward_fn, termination_fn)
    counted: Any = CountsRows(dynamics._members)
    dynamics._members = counted
    step(dynamics, 30)
    assert counted.num_rows == 30
    step(dynamics, 31)
    assert counted.num_rows == 30 + 33  # three groups of eleven


@pytest.mark.parametrize("num_envs", [4, 6])
def test_every_environment_meets_every_member_equally_often(num_envs: int) -> None:
    dynamics = LearnedDynamics(make_model(), reward_fn, termination_fn)
    generator = torch.Generator().manual_seed(0)
    group_size = -(-num_envs // len(ELITES))
    drawn = [dynamics._draw_slots(num_envs, generator) // group_size for _ in range(3000)]
    members = torch.stack(drawn)
    for member in range(len(ELITES)):
        shares = (members == member).float().mean(dim=0)
        assert ((shares - 1 / len(ELITES)).abs() < 0.04).all()  # 4.6 standard deviations


@pytest.mark.parametrize("objective", [NLLConfig(), BilevelConfig()])
@pytest.mark.parametrize("learns_reward", [False, True])
def test_the_aleatoric_penalty_is_the_largest_norm_of_an_elites_std(
    objective: NLLConfig | BilevelConfig, learns_reward: bool
) -> None:
    model = make_model(objective, learns_reward=learns_reward)
    if model.objective.solution_log_var is not None:
        model.objective.solution_log_var.data.copy_(torch.randn(5, OBS_SIZE + learns_reward))
    reward = None if learns_reward else reward_fn
    penalised = step(LearnedDynamics(model, reward, termination_fn, uncertainty_penalty=0.5), 7)
    plain = step(LearnedDynamics(model, reward, termination_fn), 7)
    obs, action = inputs(7)
    rows = torch.cat([obs, action], dim=-1)[None]
    expected = torch.zeros(7)
    for elite in ELITES:
        with torch.no_grad():
            log_var = model.members(torch.tensor([elite])).predict(rows).log_var[0]
        std = log_var.expand(7, -1).exp().sqrt()
        expected = torch.maximum(expected, std.square().sum(dim=1).sqrt())
    torch.testing.assert_close(penalised.uncertainty, expected)
    torch.testing.assert_close(penalised.reward, plain.reward - 0.5 * expected)
    # The penalty changes nothing else: the same members, the same noise.
    torch.testing.assert_close(penalised.next_obs, plain.next_obs)


@pytest.mark.parametrize("learns_reward", [False, True])
def test_disagreement_is_the_largest_distance_from_the_elites_mean(learns_reward: bool) -> None:
    model = make_model(learns_reward=learns_reward)
    reward = None if learns_reward else reward_fn
    obs, action = inputs(7)
    rows = torch.cat([obs, action], dim=-1)[None]
    with torch.no_grad():
        means = [model.members(torch.tensor([e])).predict(rows).mean[0, :, :3] for e in ELITES]
    middle = (means[0] + means[1] + means[2]) / 3
    expected = torch.stack([(mean - middle).norm(dim=1) for mean in means]).max(dim=0).values
    for penalty in (0.0, 2.0):
        moved = step(
            LearnedDynamics(
                model,
                reward,
                termination_fn,
                uncertainty="disagreement",
                uncertainty_penalty=penalty,
            ),
            7,
        )
        plain = step(LearnedDynamics(model, reward, termination_fn), 7)
        torch.testing.assert_close(moved.uncertainty, expected)
        torch.testing.assert_close(moved.reward, plain.reward - penalty * expected)


def test_penalties_computed_by_hand() -> None:
    """Two members in one dimension: means -1 and 5, standard deviations 0.5 and 2."""

    class TwoMembers:
        def moments(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            mean = torch.tensor([-1.0, 5.0])[:, None, None].expand(2, rows.shape[1], 1)
            return mean, torch.tensor([0.5, 2.0])[:, None, None]

    def reward(kind: Any) -> list[float]:
        model = make_model()
        model.obs_size = 1
        dynamics = LearnedDynamics(
            model,
            lambda obs, *_: obs[:, 0],
            None,
            uncertainty=kind,
            uncertainty_penalty=10.0,
        )
        stand_in: Any = TwoMembers()
        dynamics._members, dynamics._num_members = stand_in, 2
        obs = torch.tensor([[5.0], [6.0], [7.0]])
        return dynamics.step(obs, torch.zeros(3, 2), torch.Generator()).reward.tolist()

    assert reward("aleatoric") == pytest.approx([5.0 - 20.0, 6.0 - 20.0, 7.0 - 20.0])
    assert reward("disagreement") == pytest.approx([5.0 - 30.0, 6.0 - 30.0, 7.0 - 30.0])


def test_without_any_termination_nothing_terminates() -> None:
    dynamics = LearnedDynamics(make_model(), reward_fn, None)
    assert not step(dynamics, 30).terminated.any()


def test_the_learned_termination_ends_episodes() -> None:
    model = make_model(learns_termination=True)
    dynamics = LearnedDynamics(model, reward_fn, None)
    assert not step(dynamics, 30).terminated.any()
    assert model.termination is not None
    model.termination.has_terminations.fill_(True)
    assert not step(dynamics, 30).terminated.any()  # a copy, like the members
    dynamics.refresh()
    moved = step(dynamics, 30)
    obs, action = inputs(30)
    assert torch.equal(moved.terminated, model.termination(obs, action, moved.next_obs))
    assert moved.terminated.any()
    assert not moved.terminated.all()


@pytest.mark.parametrize("options", [{}, ALL_MEMBERS])
def test_a_fit_is_noticed_by_refresh(options: DynamicsOptions) -> None:
    model = make_model(learns_termination=True)
    dynamics = LearnedDynamics(model, reward_fn, None, **options)
    before = step(dynamics, 7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    model.elite_indices.copy_(torch.tensor([0, 1, 2]))
    assert torch.equal(step(dynamics, 7).next_obs, before.next_obs)
    dynamics.refresh()
    refreshed = step(dynamics, 7)
    assert not torch.equal(refreshed.next_obs, before.next_obs)
    anew = step(LearnedDynamics(model, reward_fn, None, **options), 7)
    assert torch.equal(refreshed.next_obs, anew.next_obs)


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_large_products_may_be_in_bfloat16(monkeypatch: pytest.MonkeyPatch, penalty: float) -> None:
    """Which rounds factors to 8 bits: a change is predicted to about a hundredth of its size."""
    monkeypatch.setattr(fast_layers, "MIN_WORK", 0)
    model = make_model(learns_reward=True)
    options: DynamicsOptions = {"uncertainty_penalty": penalty, "deterministic": True}
    exact = step(LearnedDynamics(model, None, None, **options), 60)
    low = LearnedDynamics(model, None, None, precision="bfloat16", **options)
    for _ in range(2):
        rounded = step(low, 60)
        for name in ("next_obs", "reward"):
            one, other = getattr(exact, name), getattr(rounded, name)
            assert other.dtype == torch.float32
            assert not torch.equal(one, other)
            torch.testing.assert_close(one, other, rtol=0.03, atol=0.05)
        low.refresh()


def test_steps_repeat_themselves_under_a_seed() -> None:
    dynamics = LearnedDynamics(make_model(), reward_fn, termination_fn)
    assert torch.equal(step(dynamics, 7).next_obs, step(dynamics, 7).next_obs)
    assert not torch.equal(step(dynamics, 7).next_obs, step(dynamics, 7, seed=3).next_obs)
    assert not step(dynamics, 7).next_obs.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uncertainty_penalty": -1.0}, "'uncertainty_penalty': -1.0; allowed: 0 or more"),
        ({"uncertainty_penalty": float("nan")}, "'uncertainty_penalty': nan"),
        ({"uncertainty_penalty": float("inf")}, "'uncertainty_penalty': inf"),
        ({"uncertainty": "epistemic"}, "'epistemic'; allowed: 'aleatoric', 'disagreement'"),
        ({"precision": "float16"}, "'float16'; allowed: 'auto', 'float32', 'bfloat16'"),
    ],
)
def test_impossible_options(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LearnedDynamics(make_model(), reward_fn, None, **options)


def test_a_reward_has_to_come_from_somewhere() -> None:
    with pytest.raises(ConfigError, match="the model learns no reward; give a function"):
        LearnedDynamics(make_model(), None, None)
