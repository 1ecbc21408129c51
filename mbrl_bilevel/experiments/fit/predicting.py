"""A trained model's predictions for many rows, some rows at a time."""

from collections.abc import Iterator

from torch import Tensor

from mbrl_bilevel.data import Transitions
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.types import Gaussian

ROWS_AT_A_TIME = 8192


def normalised(model: DynamicsModel, transitions: Transitions) -> tuple[Tensor, Tensor]:
    """Return inputs `[N, D_x]` and targets `[N, D]` in the model's normalised units."""
    inputs, targets = model.tensors(transitions)
    return model.input_normalizer.normalize(inputs), model.target_normalizer.normalize(targets)


def predictions(model: DynamicsModel, x: Tensor) -> Iterator[tuple[slice, Gaussian]]:
    """Yield rows of normalised inputs `[N, D_x]` with every member's prediction for them."""
    for start in range(0, len(x), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        outputs = model.network(x[rows].expand(model.network.ensemble_size, -1, -1))
        yield rows, model.objective.predictive(outputs)
