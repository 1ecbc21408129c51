"""Members prepared for planning against the network and its normalisers, step by step."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import DynamicsModel, fast_layers
from tests.dynamics.cases import CONFIGS, OBS_SIZE, disturb, generator, make_model, normal

EACH_MODEL = pytest.mark.parametrize("learns_reward", [False, True])
EACH_OBJECTIVE = pytest.mark.parametrize("objective", CONFIGS)
EACH_INDEX = pytest.mark.parametrize("indices", [[0], [0, 1, 2], [2, 0, 2, 2], [1, 1]])
ACTION_SIZE, N, HORIZON = 1, 4, 5


def trained(objective: str, learns_reward: bool) -> DynamicsModel:
    """A model in float64 whose numbers are all of a trained one's kind."""
    model = make_model(objective, learns_reward=learns_reward).double()
    disturb(model)
    return model


def reference(model: DynamicsModel, member: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Raw mean and variance `[N, D]` of one member by the network and the normalisers."""
    x = model.input_normalizer.normalize(inputs)
    size = model.network.ensemble_size
    prediction = model.objective.predictive(model.network(x.expand(size, *x.shape)))
    mean, log_var = prediction.mean[member], prediction.log_var[member]
    variance = log_var.exp() * model.target_normalizer.std.square()
    return model.target_normalizer.denormalize(mean), variance


@EACH_MODEL
@EACH_OBJECTIVE
@EACH_INDEX
def test_predictions_equal_the_networks(
    objective: str, learns_reward: bool, indices: list[int]
) -> None:
    model = trained(objective, learns_reward)
    inputs = normal(1, len(indices), N, OBS_SIZE + ACTION_SIZE)
    members = model.members(torch.tensor(indices))
    found = members.predict(inputs)
    log_var = found.log_var.expand_as(found.mean)
    moments = [moment.expand_as(found.mean) for moment in members.moments(inputs)]
    for row, member in enumerate(indices):
        mean, variance = reference(model, member, inputs[row])
        torch.testing.assert_close(found.mean[row], mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(log_var[row].exp(), variance, rtol=1e-9, atol=0)
        torch.testing.assert_close(moments[0][row], mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moments[1][row].square(), variance, rtol=1e-9, atol=0)


@EACH_MODEL
@EACH_OBJECTIVE
@pytest.mark.parametrize("with_noise", [True, False])
def test_a_rollout_equals_that_of_one_particle_after_the_other(
    objective: str, learns_reward: bool, with_noise: bool
) -> None:
    model = trained(objective, learns_reward)
    indices = [2, 0, 2, 1]
    start, actions = normal(1, N, OBS_SIZE), normal(2, HORIZON, N, ACTION_SIZE)
    noise = normal(3, HORIZON, len(indices), 1, OBS_SIZE) if with_noise else None
    members = model.members(torch.tensor(indices))
    obs = start.expand(len(indices), N, OBS_SIZE)
    visited, rewards = [obs], []
    for t in range(HORIZON):
        action = actions[t].expand(len(indices), N, ACTION_SIZE)
        obs, reward = members.step(obs, action, None if noise is None else noise[t])
        visited.append(obs)
        rewards.append(reward)
    for row, member in enumerate(indices):
        for n in range(N):
            current = start[n]
            for t in range(HORIZON):
                inputs = torch.cat([current, actions[t, n]])
                mean, variance = reference(model, member, inputs[None])
                current = current + mean[0, :OBS_SIZE]
                if noise is not None:
                    current = current + variance[0, :OBS_SIZE].sqrt() * noise[t, row, 0]
                torch.testing.assert_close(visited[t + 1][row, n], current, rtol=1e-7, atol=1e-7)
                reward = rewards[t]
                if learns_reward:
                    assert reward is not None
                    assert reward.shape == (len(indices), N)
                    torch.testing.assert_close(reward[row, n], mean[0, -1], rtol=1e-7, atol=1e-7)
                else:
                    assert reward is None


@pytest.mark.parametrize("one_by_one", [False, True])
@EACH_OBJECTIVE
def test_chosen_members_are_those_asked_for(
    objective: str, one_by_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_layers, "MIN_WORK", 0 if one_by_one else torch.inf)
    model = trained(objective, learns_reward=True).float()
    everyone = model.members(torch.tensor([0, 1, 2]))
    inputs = normal(1, 4, N, OBS_SIZE + ACTION_SIZE).float()
    for indices in ([2, 0, 2, 1], [1, 1, 0, 0]):
        chosen = everyone.choose(torch.tensor(indices))
        afresh = model.members(torch.tensor(indices))
        for found, wanted in zip(chosen.moments(inputs), afresh.moments(inputs), strict=True):
            assert torch.equal(found, wanted)
        assert torch.equal(chosen.predict(inputs).log_var, afresh.predict(inputs).log_var)


@EACH_OBJECTIVE
def test_members_stay_as_they_were_when_they_were_made(objective: str) -> None:
    model = trained(objective, learns_reward=True)
    members = model.members(torch.tensor([0, 1, 2]))
    inputs = normal(1, 3, N, OBS_SIZE + ACTION_SIZE)
    before = members.predict(inputs)
    disturb(model, seed=8)
    after = members.predict(inputs)
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.log_var, after.log_var)
    assert not torch.equal(model.members(torch.tensor([0, 1, 2])).predict(inputs).mean, after.mean)


@EACH_OBJECTIVE
def test_single_precision_is_enough_for_data_away_from_zero(objective: str) -> None:
    """The normalisers are folded into the weights: what cancels there must not cost much."""
    model = make_model(objective)
    inputs = 100 + torch.randn(3, 50, OBS_SIZE + ACTION_SIZE, generator=generator(1))
    model.input_normalizer.fit(inputs.flatten(0, 1))
    found = model.members(torch.tensor([0, 1, 2])).predict(inputs).mean
    model.double()
    for member in range(3):
        expected, _ = reference(model, member, inputs[member].double())
        torch.testing.assert_close(found[member].double(), expected, rtol=0, atol=1e-4)
