"""Batches that are seen from the model's own predictions."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.dynamics.own_predictions import OwnPredictions, is_followed
from mbrl_bilevel.types import Gaussian
from tests.dynamics.cases import (
    CONFIGS,
    DISCRETE,
    OBS_SIZE,
    generator,
    linear_system,
    make_model,
    settings,
)

LENGTH = 5
MEMBERS, BATCH = 3, 8


def episodes(count: int = 60, *, discrete: bool = False) -> Transitions:
    """Episodes of five steps, each step from where the last one ended."""
    steps = linear_system(count, space=DISCRETE) if discrete else linear_system(count)
    obs = steps.obs.copy()
    for i in range(count - 1):
        if (i + 1) % LENGTH:
            obs[i + 1] = steps.next_obs[i]
    ends = np.arange(1, count + 1) % LENGTH == 0
    return dataclasses.replace(steps, obs=obs, terminated=np.zeros(count, np.bool_), truncated=ends)


def prepare(
    transitions: Transitions, share: float, *, learns_reward: bool = False, discrete: bool = False
) -> tuple[DynamicsModel, OwnPredictions, Tensor, Tensor]:
    space = {"space": DISCRETE} if discrete else {}
    model = make_model("nll", learns_reward=learns_reward, **space)
    inputs, targets = model.tensors(transitions)
    model.input_normalizer.fit(inputs)
    model.target_normalizer.fit(targets)
    own = OwnPredictions(model, transitions, inputs, targets, share, seed=3)
    x, y = model.input_normalizer.normalize(inputs), model.target_normalizer.normalize(targets)
    return model, own, x, y


def test_steps_are_followed_within_an_episode_alone() -> None:
    steps = episodes(15)
    followed = is_followed(steps)
    assert followed.tolist() == [(i + 1) % LENGTH != 0 for i in range(15)]
    steps.terminated[1] = True
    assert not is_followed(steps)[1]
    # A row between them is missing, as it is held out: the next one is of a later step.
    assert not is_followed(steps[[5, 7, 8]])[0]
    assert is_followed(steps[[5, 7, 8]])[1]
    assert not is_followed(steps[:0]).any()


@pytest.mark.parametrize(
    ("learns_reward", "discrete"), [(False, False), (True, False), (True, True)]
)
def test_rows_are_those_of_a_plain_loop(learns_reward: bool, discrete: bool) -> None:
    steps = episodes(discrete=discrete)
    model, own, x, y = prepare(steps, 0.5, learns_reward=learns_reward, discrete=discrete)
    # Without noise, what is predicted is known.
    model.objective.predictive = lambda p: Gaussian(p.mean, torch.full_like(p.mean, -80.0))  # type: ignore[method-assign]
    rows = torch.randint(0, len(steps), (MEMBERS, BATCH), generator=generator(1))
    new_x, new_y = own.replace(rows, x[rows], y[rows])
    with torch.no_grad():
        mean = model.network(x.expand(MEMBERS, -1, -1)).mean
    followed = is_followed(steps)
    num_replaced = 0
    for member in range(MEMBERS):
        for place in range(BATCH):
            i = int(rows[member, place])
            if place >= BATCH // 2 or not followed[i]:
                expected_x, expected_y = x[i], y[i]
            else:
                num_replaced += 1
                change = model.target_normalizer.denormalize(mean[member, i])[:OBS_SIZE]
                obs = torch.as_tensor(steps.obs[i]) + change
                inputs, targets = (t[i + 1].clone() for t in model.tensors(steps))
                inputs[:OBS_SIZE] = obs
                targets[:OBS_SIZE] = torch.as_tensor(steps.next_obs[i + 1]) - obs
                expected_x = model.input_normalizer.normalize(inputs)
                expected_y = model.target_normalizer.normalize(targets)
            torch.testing.assert_close(new_x[member, place], expected_x, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(new_y[member, place], expected_y, atol=1e-5, rtol=1e-5)
    assert num_replaced > 4


def test_states_are_drawn_from_the_prediction_and_lead_back_to_the_recorded_ones() -> None:
    steps = episodes()
    model, own, x, y = prepare(steps, 1.0)
    rows = torch.full((MEMBERS, 20_000), 2)
    new_x, new_y = own.replace(rows, x[rows], y[rows])
    obs = model.input_normalizer.denormalize(new_x)[..., :OBS_SIZE]
    with torch.no_grad():
        prediction = model.network(x[rows[:, :1]])
    std = (0.5 * prediction.log_var).exp()[:, 0] * model.target_normalizer.std
    mean = (
        torch.as_tensor(steps.obs[2]) + model.target_normalizer.denormalize(prediction.mean)[:, 0]
    )
    torch.testing.assert_close(obs.mean(dim=1), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(obs.std(dim=1), std, rtol=0.03, atol=0)
    reached = obs + model.target_normalizer.denormalize(new_y)
    expected = torch.as_tensor(steps.next_obs[3]).expand_as(reached)
    torch.testing.assert_close(reached, expected, atol=1e-4, rtol=1e-4)


def test_what_never_varies_is_predicted_as_it_is() -> None:
    steps = episodes()
    steps.obs[:, 1] = steps.next_obs[:, 1] = 4.0
    _model, own, x, y = prepare(steps, 1.0)
    rows = torch.arange(BATCH).expand(MEMBERS, -1)
    new_x, new_y = own.replace(rows, x[rows], y[rows])
    assert torch.equal(new_x[..., 1], x[rows][..., 1])
    assert torch.equal(new_y[..., 1], y[rows][..., 1])


def trained(objective: str, config: ModelConfig) -> DynamicsModel:
    model = make_model(objective, config)
    ModelTrainer(model, config, seed=0).fit(episodes(160), linear_system(40, seed=1), generator())
    return model


@pytest.mark.parametrize("objective", CONFIGS)
def test_every_objective_trains_on_them_in_the_last_updates(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    replace = OwnPredictions.replace

    def count(self: OwnPredictions, rows: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(rows.shape)
        return replace(self, rows, x, y)

    monkeypatch.setattr(OwnPredictions, "replace", count)
    config = settings(own_predictions=0.5, num_updates=20, patience=100)
    models = [trained(objective, config) for _ in range(2)]
    assert len(sizes) == 2 * 6
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name])
    plain = trained(objective, settings(num_updates=20, patience=100))
    assert len(sizes) == 2 * 6  # none by default
    assert not torch.equal(plain.network.weights[0], models[0].network.weights[0])
