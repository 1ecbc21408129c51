"""A short fit of a small model, for the tests of fits."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.types import Gaussian
from tests.dynamics.cases import CONFIGS, generator, linear_system, settings

EACH_OBJECTIVE = pytest.mark.parametrize("objective", CONFIGS)
TRAINING, HELD_OUT = linear_system(160), linear_system(40, seed=1)


def fit(
    model: DynamicsModel,
    config: ModelConfig | None = None,
    *,
    training: Transitions = TRAINING,
    held_out: Transitions = HELD_OUT,
    seed: int = 0,
) -> dict[str, float]:
    trainer = ModelTrainer(model, config or settings(), seed)
    return trainer.fit(training, held_out, generator(seed))


def state(model: DynamicsModel) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def predict(model: DynamicsModel, data: Transitions) -> tuple[Gaussian, Tensor]:
    """Predictions of all members and targets, both normalised."""
    inputs, targets = model.tensors(data)
    x, y = model.input_normalizer.normalize(inputs), model.target_normalizer.normalize(targets)
    with torch.no_grad():
        return model.network(x.expand(model.network.ensemble_size, *x.shape)), y


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
