"""One fit of a model: what it learns and reports, and what it cannot take."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_bilevel.data import BootstrapBatches
from mbrl_bilevel.dynamics import ModelTrainer
from mbrl_bilevel.dynamics.outer_problem import OUTER_ROWS, outer_rows
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import Gaussian
from tests.dynamics.cases import OBS_SIZE, generator, linear_system, make_model, settings
from tests.dynamics.fitting import EACH_OBJECTIVE, HELD_OUT, TRAINING, fit, predict, state


@pytest.mark.parametrize("num_updates", [1, 7, 25])
def test_a_fit_has_at_most_so_many_updates_and_looks_at_the_last(num_updates: int) -> None:
    metrics = fit(make_model(), settings(num_updates=num_updates))
    assert metrics["model/num_updates"] == num_updates
    assert "model/train_loss" in metrics


@EACH_OBJECTIVE
def test_training_makes_better_predictions_and_reports_them(objective: str) -> None:
    model = make_model(objective, learns_reward=True)
    metrics = fit(model, settings(num_updates=300, lr=5e-3))
    prediction, target = predict(model, HELD_OUT)
    predictive = model.objective.predictive(prediction)
    nll = gaussian_nll(predictive, target).mean()
    rmse = (predictive.mean - target).square().mean().sqrt()
    assert metrics["model/val_nll"] == pytest.approx(nll.item(), rel=1e-4)
    assert metrics["model/val_rmse"] == pytest.approx(rmse.item(), rel=1e-4)
    assert metrics["model/val_rmse"] < 0.3
    assert all(np.isfinite(value) for value in metrics.values())


def test_only_elites_count_in_the_report() -> None:
    config = settings(num_elite_members=1, lr=5e-3)
    model = make_model(config=config)
    metrics = fit(model, config)
    prediction, target = predict(model, HELD_OUT)
    scores = model.objective.score(prediction, target)
    assert scores.argmin().item() == model.elite_indices.item()
    assert metrics["model/val_nll"] == pytest.approx(scores.min().item(), rel=1e-4)


@EACH_OBJECTIVE
def test_outer_steps_are_taken_and_logged_by_the_bilevel_objective_alone(objective: str) -> None:
    model = make_model(objective)
    metrics = fit(model)
    found = {tag.removeprefix("bilevel/") for tag in metrics if tag.startswith("bilevel/")}
    expected = {"outer_loss", "hypergradient_norm", "stationarity"}
    if objective == "bilevel_state_dependent":
        expected |= {"solver_residual", "outer_loss_before"}
    elif objective.startswith("bilevel"):
        expected |= {"solver_residual", "u_mean"}
    if not objective.startswith("bilevel"):
        expected = set()
    assert found == expected


@pytest.mark.parametrize(("num_updates", "steps"), [(9, 0), (10, 1), (35, 3)])
def test_an_outer_step_every_so_many_updates_on_held_out_data(
    monkeypatch: pytest.MonkeyPatch, num_updates: int, steps: int
) -> None:
    model = make_model("bilevel")
    assert model.objective.outer_every == 10
    targets: list[Tensor] = []
    outer_step = model.objective.outer_step

    def spy(prediction: Gaussian, target: Tensor) -> dict[str, float]:
        targets.append(target)
        return outer_step(prediction, target)

    monkeypatch.setattr(model.objective, "outer_step", spy)
    fit(model, settings(num_updates=num_updates))
    assert len(targets) == steps
    for target in targets:
        assert torch.equal(target, predict(model, HELD_OUT)[1])


def test_the_fit_ends_at_the_outer_optimum_of_the_weights_it_keeps() -> None:
    model = make_model("bilevel")
    metrics = fit(model)
    prediction, target = predict(model, HELD_OUT)
    log_var = model.objective.solution_log_var
    assert log_var is not None
    second_moment = (prediction.mean - target).square().mean(dim=1)
    torch.testing.assert_close(log_var.exp(), second_moment, rtol=1e-4, atol=0)
    assert metrics["bilevel/hypergradient_norm"] < 1e-4


def test_statistics_are_those_of_the_training_data() -> None:
    model = make_model(learns_reward=True)
    fit(model)
    inputs, targets = model.tensors(TRAINING)
    for normalizer, data in ((model.input_normalizer, inputs), (model.target_normalizer, targets)):
        torch.testing.assert_close(normalizer.mean, data.mean(dim=0))
        torch.testing.assert_close(normalizer.std, data.std(dim=0, correction=0))


@pytest.mark.parametrize(("num_training", "num_held_out"), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_set_is_refused(num_training: int, num_held_out: int) -> None:
    message = f"training and held-out transitions, got {num_training} and {num_held_out}"
    with pytest.raises(MBRLError, match=message):
        fit(make_model(), training=TRAINING[:num_training], held_out=HELD_OUT[:num_held_out])


@EACH_OBJECTIVE
def test_a_handful_of_transitions_is_enough(objective: str) -> None:
    model = make_model(objective)
    fit(model, training=TRAINING[:1], held_out=HELD_OUT[:1])
    assert all(value.isfinite().all() for value in model.state_dict().values())


@EACH_OBJECTIVE
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["training", "held_out"])
def test_values_that_are_not_finite_are_reported(objective: str, value: float, where: str) -> None:
    sets = {"training": TRAINING, "held_out": HELD_OUT}
    next_obs = sets[where].next_obs.copy()
    next_obs[3, 0] = value
    sets[where] = dataclasses.replace(sets[where], next_obs=next_obs)
    with pytest.raises(MBRLError, match=r"is not finite: training diverged; lower model\.lr, or"):
        fit(make_model(objective), training=sets["training"], held_out=sets["held_out"])


@EACH_OBJECTIVE
def test_divergence_is_reported(objective: str) -> None:
    """The weights of before would be there to keep, but the optimiser could not go on."""
    config = settings(lr=1e30)
    with pytest.raises(MBRLError, match="training loss is not finite: training diverged"):
        fit(make_model(objective, config), config)


class TestMembersKeepToThemselves:
    @EACH_OBJECTIVE
    def test_a_members_data_does_not_change_another_members_weights(
        self, objective: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fits = []
        for first_members_rows in (0, 40):

            class Batches(BootstrapBatches):
                shift = first_members_rows

                def __iter__(self) -> Iterator[Tensor]:
                    for rows in super().__iter__():
                        yield torch.cat([(rows[:1] + self.shift) % len(TRAINING), rows[1:]])

            monkeypatch.setattr("mbrl_bilevel.dynamics.training.BootstrapBatches", Batches)
            model = make_model(objective)
            # What is learned of the weight decay all members share.
            fit(model, settings(patience=100, weight_decay=1e-4))
            fits.append(state(model))
        one, other = fits
        for key in one:
            if not key.startswith("network."):
                continue
            if objective == "bilevel_state_dependent" and key.endswith(("weights.2", "biases.2")):
                # The log-variance heads are solved for together, as a mixture.
                one[key], other[key] = one[key][..., :OBS_SIZE], other[key][..., :OBS_SIZE]
            if key == "network.leverage.slope":  # likewise
                continue
            assert torch.equal(one[key][1:], other[key][1:]), key
            has_gradient = "log_var" not in key or objective in ("nll", "beta_nll")
            assert torch.equal(one[key][0], other[key][0]) is not has_gradient, key
        for key in ("reward.log_u", "reward.log_root", "reward.upper", "residual_log_var"):
            key = f"objective.{key}"
            if key in one:
                # The members' outer problems are solved until the last of them is.
                torch.testing.assert_close(one[key][1:], other[key][1:], rtol=0, atol=1e-5)
                assert not torch.equal(one[key][0], other[key][0])

    def test_members_that_start_alike_come_apart_on_their_own_samples(self) -> None:
        model = make_model()
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter.copy_(parameter[:1].expand_as(parameter).clone())
        fit(model)
        weight = model.network.weights[0]
        assert not torch.equal(weight[0], weight[1])
        assert not torch.equal(weight[1], weight[2])


def test_a_second_fit_goes_on_from_the_first() -> None:
    model = make_model()
    trainer = ModelTrainer(model, settings(lr=3e-3), seed=0)
    first = trainer.fit(TRAINING, HELD_OUT, generator(0))
    second = trainer.fit(TRAINING, HELD_OUT, generator(1))
    assert second["model/val_nll"] < first["model/val_nll"]


def test_terminations_are_learned_along_with_the_dynamics() -> None:
    model = make_model(learns_termination=True)
    fit(model, training=linear_system(600))
    assert model.termination is not None
    data = linear_system(300, seed=2)
    inputs = torch.as_tensor(data.obs), model.codec.encode(data.actions)
    found = model.termination(*inputs, torch.as_tensor(data.next_obs))
    assert (found.numpy() == data.terminated).mean() > 0.9


@pytest.mark.parametrize("num_held_out", [1, OUTER_ROWS, OUTER_ROWS + 1, 3 * OUTER_ROWS + 7])
def test_outer_steps_take_turns_through_all_held_out_rows(num_held_out: int) -> None:
    rows = torch.arange(num_held_out)
    turns = [rows[outer_rows(step, num_held_out)] for step in range(1, 5)]
    assert all(0 < len(turn) <= OUTER_ROWS for turn in turns)
    assert torch.equal(torch.cat(turns).unique(), rows)
