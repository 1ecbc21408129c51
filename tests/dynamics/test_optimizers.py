"""Optimisers and schedules by name, and that a fit uses them."""

import io
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.dynamics import ModelTrainer
from mbrl_bilevel.dynamics.fused_adamw import FusedAdamW
from mbrl_bilevel.dynamics.optimizers import (
    SCHEDULES,
    START,
    WARM_UP,
    constant,
    make_optimizer,
    one_cycle,
)
from mbrl_bilevel.dynamics.soap import SOAP
from tests.dynamics.cases import generator, linear_system, make_model, settings

TRAINING, HELD_OUT = linear_system(160), linear_system(40, seed=1)


def trainer(seed: int = 0, **changes: Any) -> ModelTrainer:
    config = settings(**changes)
    return ModelTrainer(make_model("bilevel_state_dependent", config, seed=seed), config, seed=5)


# --- schedules


def test_a_cycle_starts_low_is_one_at_its_top_and_ends_at_zero() -> None:
    assert one_cycle(0.0) == pytest.approx(START, abs=1e-12)
    assert one_cycle(WARM_UP) == pytest.approx(1.0, abs=1e-12)
    assert one_cycle(1.0) == pytest.approx(0.0, abs=1e-12)
    assert one_cycle(WARM_UP / 2) == pytest.approx((1 + START) / 2)
    assert one_cycle((1 + WARM_UP) / 2) == pytest.approx(0.5)


def test_a_cycle_goes_up_then_down_without_a_jump() -> None:
    progress = [step / 1000 for step in range(1001)]
    values = [one_cycle(share) for share in progress]
    for (share, value), (_, following) in itertools.pairwise(zip(progress, values, strict=True)):
        assert following > value if share < WARM_UP else following < value
        assert abs(following - value) < 0.01
    assert all(0 <= value <= 1 for value in values)


def test_the_constant_schedule_is_one() -> None:
    assert [constant(share) for share in (0.0, 0.3, 1.0)] == [1.0, 1.0, 1.0]


def test_every_schedule_of_the_configuration_is_there() -> None:
    assert dict(SCHEDULES) == {"constant": constant, "one_cycle": one_cycle}
    for name in SCHEDULES:
        assert ModelConfig.model_validate({"lr_schedule": name}).lr_schedule == name
    assert ModelConfig().lr_schedule == "constant"


# --- optimisers


@pytest.mark.parametrize(("name", "kind"), [("adamw", FusedAdamW), ("soap", SOAP)])
def test_optimisers_by_name_with_groups_of_their_own(name: Any, kind: type) -> None:
    weight, bias = torch.zeros(2, 3, 4).requires_grad_(), torch.zeros(2, 1, 4).requires_grad_()
    groups = [
        {"params": [weight], "weight_decay": 0.3},
        {"params": [bias], "weight_decay": 0.0},
    ]
    optimizer = make_optimizer(name, groups, lr=0.02)
    assert type(optimizer) is kind
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.02]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert [group["params"] for group in optimizer.param_groups] == [[weight], [bias]]


@pytest.mark.parametrize(("name", "kind"), [("adamw", FusedAdamW), ("soap", SOAP)])
def test_a_trainer_decays_weights_and_not_biases(name: str, kind: type) -> None:
    made = trainer(optimizer=name, lr=0.02, weight_decay=0.3)
    assert type(made.optimizer) is kind
    found = {
        id(parameter): group["weight_decay"]
        for group in made.optimizer.param_groups
        for parameter in group["params"]
    }
    network = made.model.network
    expected = {id(weight): 0.3 for weight in network.weights}
    assert found == expected | {id(bias): 0.0 for bias in network.biases}


# --- in a fit


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
@pytest.mark.parametrize("lr_schedule", ["constant", "one_cycle"])
def test_a_fit_follows_the_schedule(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, lr_schedule: str
) -> None:
    """Both groups, update by update; and in the next fit from the start again."""
    made = trainer(
        optimizer=optimizer, lr_schedule=lr_schedule, lr=0.02, num_updates=20, patience=99
    )
    rates: list[list[float]] = []
    step = made.optimizer.step

    def spy(*args: Any) -> Any:
        rates.append([group["lr"] for group in made.optimizer.param_groups])
        return step(*args)

    monkeypatch.setattr(made.optimizer, "step", spy)
    for seed in range(2):
        made.fit(TRAINING, HELD_OUT, generator(seed))
    expected = [0.02 * SCHEDULES[lr_schedule](update / 20) for update in range(1, 21)]
    assert rates == [[rate, rate] for rate in expected * 2]


def test_a_learning_rate_of_nearly_nothing_at_the_end_changes_nearly_nothing() -> None:
    made = trainer(optimizer="soap", lr_schedule="one_cycle", lr=0.02, num_updates=1)
    before = [parameter.detach().clone() for parameter in made.model.network.weights[:-1]]
    made.fit(TRAINING, HELD_OUT, generator(0))
    for parameter, start in zip(made.model.network.weights[:-1], before, strict=True):
        assert torch.equal(parameter, start)


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
def test_training_makes_better_predictions(optimizer: str) -> None:
    made = trainer(optimizer=optimizer, lr_schedule="one_cycle", lr=3e-2, num_updates=150)
    metrics = made.fit(TRAINING, HELD_OUT, generator(0))
    assert metrics["model/val_rmse"] < 0.3
    assert metrics["model/val_nll"] < -0.4


@pytest.mark.parametrize("lr_schedule", ["constant", "one_cycle"])
def test_a_restored_trainer_with_soap_goes_on_bit_for_bit(lr_schedule: str) -> None:
    changes: dict[str, Any] = {"optimizer": "soap", "lr_schedule": lr_schedule}
    first = trainer(**changes)
    first.fit(TRAINING[:100], HELD_OUT[:20], generator(1))
    file = io.BytesIO()
    torch.save((first.model.state_dict(), first.state_dict()), file)
    file.seek(0)
    model_state, state = torch.load(file, weights_only=True)
    restored, forgetful = trainer(seed=3, **changes), trainer(seed=3, **changes)
    for other in (restored, forgetful):
        other.model.load_state_dict(model_state)
    restored.load_state_dict(state)
    resumed = restored.fit(TRAINING, HELD_OUT, generator(2))
    forgetful.fit(TRAINING, HELD_OUT, generator(2))
    uninterrupted = first.fit(TRAINING, HELD_OUT, generator(2))
    assert uninterrupted == resumed

    def numbers(one: ModelTrainer) -> list[Tensor]:
        return list(one.model.state_dict().values())

    assert all(map(torch.equal, numbers(first), numbers(restored)))
    assert not all(map(torch.equal, numbers(first), numbers(forgetful)))
