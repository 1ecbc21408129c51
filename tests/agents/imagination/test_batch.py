"""Where imagined episodes begin and end."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_agents.imagination import BatchStep, ImaginedBatch, ImaginedDynamics, ImaginedStep
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.errors import ConfigError, DatasetError
from tests.agents.imagination.known import Counting

NEVER = 1e9


def make_batch(
    start_obs: Any, dynamics: ImaginedDynamics | None = None, **arguments: Any
) -> ImaginedBatch:
    settings = {"obs_size": 2, "num_envs": len(start_obs), "rollout_length": 100, **arguments}
    return ImaginedBatch(dynamics or Counting(), start_obs, **settings)


def act(batch: ImaginedBatch, value: float = 0.0) -> BatchStep:
    return batch.step(torch.full((batch.num_envs, 1), value))


def begin_at(batch: ImaginedBatch, obs: list[list[float]]) -> None:
    batch.obs = torch.tensor(obs)


def test_the_ended_begin_anew_and_the_others_go_on() -> None:
    batch = make_batch(np.array([[0.0, NEVER]]), num_envs=4, rollout_length=3)
    begin_at(batch, [[0.0, 2.0], [5.0, NEVER], [0.0, 3.0], [0.0, 1.0]])
    first = act(batch, 0.5)
    assert first.terminated.tolist() == [False, False, False, True]
    assert not first.truncated.any()
    assert first.ended.tolist() == [3]
    assert first.final_obs.tolist() == [[1.0, 1.0]]
    assert first.obs.tolist() == [[1.0, 2.0], [6.0, NEVER], [1.0, 3.0], [0.0, NEVER]]
    assert first.reward.tolist() == [0.5] * 4
    second = act(batch)
    assert second.ended.tolist() == [0]
    assert second.obs.tolist() == [[0.0, NEVER], [7.0, NEVER], [2.0, 3.0], [1.0, NEVER]]
    third = act(batch)
    assert third.terminated.tolist() == [False, False, True, False]
    assert third.truncated.tolist() == [False, True, True, False]
    assert third.ended.tolist() == [1, 2]
    assert third.final_obs.tolist() == [[8.0, NEVER], [3.0, 3.0]]
    assert batch.num_steps.tolist() == [1, 0, 0, 2]
    assert act(batch).ended.tolist() == [3]


def test_starts_are_drawn_uniformly() -> None:
    starts = np.array([[k, NEVER] for k in range(4)])
    batch = make_batch(starts, num_envs=4000, rollout_length=1)
    for obs in (batch.obs, batch.reset(), act(batch).obs):
        shares = torch.bincount(obs[:, 0].long(), minlength=4) / 4000
        assert ((shares - 0.25).abs() < 0.03).all()  # 4.4 standard deviations


def test_starts_may_be_transitions_arrays_or_tensors() -> None:
    obs = np.array([[3.0, NEVER]], np.float32)
    no = np.zeros(1, np.bool_)
    transitions = Transitions(obs, obs, obs[:, 0], obs + 1, no, no)
    obs.flags.writeable = False
    for starts in (transitions, obs, obs.astype(np.float64), torch.tensor(obs)):
        batch = make_batch(starts, num_envs=2)
        assert batch.obs.dtype == torch.float32
        assert batch.obs.tolist() == [[3.0, NEVER]] * 2


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_starts_are_copied(kind: Any) -> None:
    starts = kind([[3.0, NEVER]])
    batch = make_batch(starts)
    starts[:] = 7.0
    assert batch.reset().tolist() == [[3.0, NEVER]]


def test_other_starts_count_from_the_next_episode_on() -> None:
    batch = make_batch(np.array([[3.0, NEVER]]), rollout_length=2)
    batch.set_start_obs(np.array([[8.0, NEVER]]))
    assert act(batch).obs[0, 0] == 4.0
    assert act(batch).obs[0, 0] == 8.0


def test_rollouts_under_way_follow_a_new_length() -> None:
    batch = make_batch(np.array([[0.0, NEVER]]), rollout_length=5)
    for _ in range(3):
        act(batch)
    batch.set_rollout_length(2)  # shorter than it already is
    assert act(batch).truncated.item()
    assert [act(batch).truncated.item() for _ in range(4)] == [False, True] * 2
    batch.set_rollout_length(3)
    assert [act(batch).truncated.item() for _ in range(6)] == [False, False, True] * 2


def test_the_step_that_leaves_the_range_of_the_starts_is_the_last_of_its_episode() -> None:
    starts = np.array([[0.0, 100.0], [20.0, 200.0]])
    batch = make_batch(starts, num_envs=6, stay_in_range=True)
    begin_at(
        batch,
        [[19.0, 150.0], [19.1, 150.0], [-1.1, 150.0], [5.0, 100.0], [5.0, 99.0], [5.0, 201.0]],
    )
    step = act(batch, 0.5)
    assert step.truncated.tolist() == [False, True, True, False, True, True]
    assert not step.terminated.any()
    assert step.ended.tolist() == [1, 2, 4, 5]
    assert step.final_obs[0].tolist() == pytest.approx([20.1, 150.0])
    assert step.reward.tolist() == [0.5] * 6
    assert batch.num_left == 4


def test_what_never_varies_has_no_range_to_be_left() -> None:
    batch = make_batch(np.array([[0.0, NEVER]] * 2), stay_in_range=True)
    assert act(batch).ended.tolist() == []
    batch.set_start_obs(np.array([[0.0, NEVER], [5.0, NEVER]]))
    begin_at(batch, [[5.0, NEVER], [2.0, 7.0]])
    assert act(batch).ended.tolist() == [0]


class BreaksReward(Counting):
    """Reaches an infinite reward beyond the count `breaks_at`, while the observation is fine."""

    def step(self, obs: Tensor, action: Tensor, _: torch.Generator) -> ImaginedStep:
        reward = torch.where(obs[:, 0] + 1 > self.breaks_at, torch.inf, action[:, 0])
        terminated = obs[:, 0] + 1 > self.breaks_at
        next_obs = torch.stack([obs[:, 0] + 1, obs[:, 1]], dim=-1)
        return ImaginedStep(next_obs, reward, terminated, reward)


@pytest.mark.parametrize("dynamics", [Counting(breaks_at=2), BreaksReward(breaks_at=2)])
def test_where_the_model_breaks_episodes_are_cut_before_it(dynamics: ImaginedDynamics) -> None:
    batch = make_batch(np.array([[0.0, NEVER]]), dynamics, num_envs=2)
    begin_at(batch, [[1.0, NEVER], [0.0, NEVER]])
    assert act(batch, -0.75).ended.tolist() == []
    with pytest.warns(RuntimeWarning, match="nan or infinity for 1 of 2 environments"):
        step = act(batch, 0.5)
    assert step.truncated.tolist() == [True, False]
    assert not step.terminated.any()
    assert step.final_obs.tolist() == [[2.0, NEVER]]
    assert step.obs.tolist() == [[0.0, NEVER], [2.0, NEVER]]
    assert step.reward.tolist() == [-0.75, 0.5]  # the lowest so far; what was paid
    assert batch.num_broken == 1
    assert act(batch, 0.5).ended.tolist() == [1]  # without a second warning
    assert batch.num_broken == 2


def test_large_observations_are_not_broken_though_their_sum_overflows() -> None:
    batch = make_batch(np.array([[0.0, 3e38]] * 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = act(batch, 0.5)
    assert batch.num_broken == 0
    assert step.obs[:, 0].tolist() == [1.0, 1.0]
    assert step.reward.tolist() == [0.5, 0.5]


def test_nothing_is_gained_where_the_model_breaks_among_positive_rewards() -> None:
    batch = make_batch(np.array([[0.0, NEVER]]), Counting(breaks_at=0))
    with pytest.warns(RuntimeWarning, match="nan or infinity"):
        assert act(batch, 0.5).reward.item() == 0.0


def test_observations_are_always_finite() -> None:
    class Shaky(Counting):
        def step(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> ImaginedStep:
            step = super().step(obs, action, generator)
            draw = torch.rand(len(obs), generator=generator)
            next_obs = step.next_obs.clone()
            next_obs[draw < 0.2, 1] = torch.nan
            next_obs[draw > 0.8, 0] = -torch.inf
            reward = torch.where((draw - 0.5).abs() < 0.1, torch.nan, step.reward)
            return ImaginedStep(next_obs, reward, step.terminated, step.uncertainty)

    batch = make_batch(np.array([[0.0, NEVER]]), Shaky(), num_envs=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(20):
            step = act(batch)
            for tensor in (step.obs, step.final_obs, step.reward):
                assert tensor.isfinite().all()
    assert 400 < batch.num_broken < 800


def test_a_seed_repeats_everything() -> None:
    class Noisy(Counting):
        def step(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> ImaginedStep:
            noise = torch.randn(obs.shape, generator=generator)
            return super().step(obs + noise, action, generator)

    def run(batch: ImaginedBatch) -> Tensor:
        return torch.stack([act(batch).obs for _ in range(6)])

    starts = np.array([[k, NEVER] for k in range(9)])
    batch = make_batch(starts, Noisy(), rollout_length=4, seed=5)
    first = run(batch)
    assert torch.equal(first, run(make_batch(starts, Noisy(), rollout_length=4, seed=5)))
    assert not torch.equal(first, run(make_batch(starts, Noisy(), rollout_length=4, seed=6)))
    batch.reset()
    assert not torch.equal(first, run(batch))
    batch.reset(seed=5)
    assert torch.equal(first, run(batch))


@pytest.mark.parametrize("value", [0, -3])
@pytest.mark.parametrize("name", ["num_envs", "rollout_length"])
def test_numbers_below_one(name: str, value: int) -> None:
    arguments: Any = {name: value}
    with pytest.raises(ConfigError, match=f"'{name}': {value}; allowed: 1 or more"):
        make_batch(np.zeros((1, 2)), **arguments)


@pytest.mark.parametrize(
    ("start_obs", "message"),
    [
        (np.zeros((0, 2)), "start_obs is empty: .* learn first"),
        (np.zeros((4, 3)), r"start_obs has shape \(4, 3\); allowed: \(M, 2\)"),
        (np.zeros(2), r"start_obs has shape \(2,\); allowed: \(M, 2\)"),
        (torch.zeros(1, 4, 2), r"start_obs has shape \(1, 4, 2\)"),
        (np.array([[0.0, 1.0], [0.0, np.nan]]), "start_obs is not finite in row 1"),
        (np.array([[np.inf, 1.0]]), "start_obs is not finite in row 0"),
    ],
)
def test_impossible_starts(start_obs: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make_batch(start_obs, num_envs=1)
    batch = make_batch(np.array([[3.0, NEVER]]))
    with pytest.raises(DatasetError, match=message):
        batch.set_start_obs(start_obs)
    assert batch.reset().tolist() == [[3.0, NEVER]]


@pytest.mark.parametrize("name", ["next_obs", "reward", "terminated"])
def test_dynamics_that_return_wrong_shapes(name: str) -> None:
    class Column(Counting):
        def step(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> ImaginedStep:
            fields = dict(vars(super().step(obs, action, generator)))
            return ImaginedStep(**{**fields, name: fields[name].unsqueeze(-1)})

    with pytest.raises(ValueError, match=rf"the dynamics return {name} of shape \(2, .*1\)"):
        act(make_batch(np.zeros((2, 2)), Column()))
