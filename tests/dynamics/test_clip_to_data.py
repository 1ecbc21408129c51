"""Predictions that are held to what the training data had."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.dynamics.model import LOG_VAR_ROWS, LOG_VAR_SHARE
from tests.dynamics.cases import OBS_SIZE, generator, linear_system, make_model, settings

TRAINING, HELD_OUT = linear_system(160), linear_system(40, seed=1)
MEMBERS = torch.tensor([2, 0, 1, 2])
ACTION_SIZE = 1
D = OBS_SIZE + 1


def fitted(objective: str = "nll", *, clip_to_data: bool = True) -> DynamicsModel:
    config = settings(clip_to_data=clip_to_data, lr=5e-3, num_updates=80)
    model = make_model(objective, config, learns_reward=True)
    ModelTrainer(model, config, seed=0).fit(TRAINING, HELD_OUT, generator())
    return model


def twin(model: DynamicsModel, *, clip_to_data: bool) -> DynamicsModel:
    """The same model but for the setting, as from a checkpoint."""
    other = make_model(
        model.objective.name,
        settings(clip_to_data=clip_to_data),
        seed=9,
        learns_reward=True,
    )
    other.load_state_dict(model.state_dict())
    return other


def inputs_of(model: DynamicsModel) -> Tensor:
    """Of the training data, raw, for each of `MEMBERS`."""
    return model.tensors(TRAINING)[0].expand(len(MEMBERS), -1, -1)


def largest(model: DynamicsModel) -> Tensor:
    """Raw log-variances, `[P, 1, D]`."""
    return model.largest_log_var[MEMBERS] + 2 * model.target_normalizer.std.log()


def test_it_is_off_by_default() -> None:
    assert ModelConfig().clip_to_data is False
    model = fitted(clip_to_data=False)
    far = 50 * inputs_of(model)
    found, expected = (m.members(MEMBERS).predict(far) for m in (model, reference(model)))
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.log_var, expected.log_var)


def reference(model: DynamicsModel) -> DynamicsModel:
    """A model that would hold predictions to a range without ends."""
    other = twin(model, clip_to_data=True)
    other.input_normalizer.low.fill_(-torch.inf)
    other.input_normalizer.high.fill_(torch.inf)
    other.largest_log_var.fill_(torch.inf)
    return other


def test_inside_the_data_nothing_changes() -> None:
    """But for the few log-variances beyond the largest that predictions may have."""
    model = fitted()
    inputs = inputs_of(model)
    held, free = (
        m.members(MEMBERS).predict(inputs) for m in (model, twin(model, clip_to_data=False))
    )
    assert torch.equal(held.mean, free.mean)
    # The members fold the normalisers into their layers: the border itself is known to rounding.
    below = free.log_var < largest(model) - 1e-4
    assert torch.equal(held.log_var[below], free.log_var[below])
    share = below.double().mean(dim=1)
    assert (share - LOG_VAR_SHARE).abs().max() < 0.015
    beyond = free.log_var > largest(model) + 1e-4
    assert beyond.any()
    assert (held.log_var <= largest(model) + 1e-4).all()


@pytest.mark.parametrize("objective", ["nll", "mse"])
@pytest.mark.parametrize("factor", [3.0, 1e6])
def test_far_outside_predictions_are_those_at_the_border(objective: str, factor: float) -> None:
    model = fitted(objective)
    data = model.tensors(TRAINING)[0]
    low, high = data.amin(dim=0), data.amax(dim=0)
    direction = torch.randn(len(MEMBERS), 30, data.shape[1], generator=generator(3))
    far = data.mean(dim=0) + factor * direction * (high - low)
    members = model.members(MEMBERS)
    found = members.predict(far)
    border = members.predict(torch.minimum(torch.maximum(far, low), high))
    assert torch.equal(found.mean, border.mean)
    assert torch.equal(found.log_var, border.log_var)
    free = twin(model, clip_to_data=False).members(MEMBERS).predict(far)
    assert (free.mean - found.mean).abs().max() > 1


def test_each_input_has_a_range_of_its_own() -> None:
    """One that is outside does not move the others."""
    model = fitted()
    inputs = inputs_of(model)[:, :10].clone()
    members = model.members(MEMBERS)
    inputs[..., 1] = 1e3
    expected = inputs.clone()
    expected[..., 1] = float(TRAINING.obs[:, 1].max())
    assert torch.equal(members.predict(inputs).mean, members.predict(expected).mean)


def test_log_variances_stay_below_the_largest_measured() -> None:
    model = fitted()
    with torch.no_grad():
        model.network.biases[-1][..., D:] += 30.0
    found = model.members(MEMBERS).predict(10 * inputs_of(model)).log_var
    torch.testing.assert_close(found, largest(model).expand_as(found), rtol=0, atol=1e-5)


def test_rollouts_do_not_run_away() -> None:
    model = fitted()
    with torch.no_grad():
        for weight in model.network.weights:
            weight *= 2.0
    held, free = (m.members(MEMBERS) for m in (model, twin(model, clip_to_data=False)))
    start = torch.as_tensor(TRAINING.obs[:20]).expand(len(MEMBERS), -1, -1)
    action = torch.ones(len(MEMBERS), 20, ACTION_SIZE)
    increments = []
    for members in (held, free):
        obs = start
        for _ in range(30):
            before = obs
            obs, _ = members.step(obs, action, None)
        increments.append((obs - before).abs().max().item())
    border = held.predict(model.tensors(TRAINING)[0].expand(len(MEMBERS), -1, -1)).mean
    assert increments[0] < 3 * border.abs().max().item()
    assert increments[1] > 100 * increments[0]


@pytest.mark.parametrize("num_rows", [1, 7, 500, LOG_VAR_ROWS, LOG_VAR_ROWS + 1])
def test_the_largest_log_variance_is_a_quantile_of_the_training_datas(num_rows: int) -> None:
    model = make_model(learns_reward=True)
    assert (model.largest_log_var == torch.inf).all()
    x = torch.randn(num_rows, OBS_SIZE + ACTION_SIZE, generator=generator(1))
    model.measure_log_var(x)
    rows = x if num_rows <= LOG_VAR_ROWS else x[::2]
    log_var = model.network(rows.expand(3, -1, -1)).log_var.detach()
    expected = log_var.double().quantile(LOG_VAR_SHARE, dim=1, keepdim=True)
    torch.testing.assert_close(model.largest_log_var.double(), expected, rtol=0, atol=1e-5)
    assert model.largest_log_var.shape == (3, 1, D)
    above = (log_var > model.largest_log_var + 1e-6).double().mean(dim=1)
    assert (above <= 1 - LOG_VAR_SHARE + 1 / len(rows)).all()


@pytest.mark.parametrize("clip_to_data", [False, True])
def test_a_fit_measures_the_model_it_leaves(clip_to_data: bool) -> None:
    """After the log-variance heads were solved for, on the training data; and the inputs' range."""
    model = fitted("bilevel_state_dependent", clip_to_data=clip_to_data)
    inputs = model.tensors(TRAINING)[0]
    measured = model.largest_log_var.clone()
    model.measure_log_var(model.input_normalizer.normalize(inputs))
    assert torch.equal(model.largest_log_var, measured)
    assert torch.equal(model.input_normalizer.low, inputs.amin(dim=0))
    assert torch.equal(model.input_normalizer.high, inputs.amax(dim=0))


def test_a_model_that_was_never_fitted_predicts_as_without() -> None:
    model = make_model(config=settings(clip_to_data=True))
    free = make_model(config=settings(clip_to_data=False))
    inputs = 100 * torch.randn(len(MEMBERS), 5, OBS_SIZE + ACTION_SIZE, generator=generator(2))
    found, expected = (m.members(MEMBERS).predict(inputs) for m in (model, free))
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.log_var, expected.log_var)
