"""Training, held-out and test parts of a table."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.data.tabular.dataset import TabularDataset
from mbrl_bilevel.errors import ConfigError

Data = tuple[Tensor, Tensor]
"""Features `[n, D]`, float32, and classes `[n]`, int64."""

PARTS = ("training", "held_out", "test")


@dataclass(frozen=True)
class TabularSplits:
    """Three disjoint parts of a dataset, in random order, standardised by the training part.

    Attributes:
        training: What the model is fitted to, and the standardisation.
        held_out: What a reward is learned on.
        test: What is reported.
        num_classes: C, also where a part lacks one of them.
    """

    training: Data
    held_out: Data
    test: Data
    num_classes: int


def split_tabular(
    dataset: TabularDataset,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> TabularSplits:
    """Divide a dataset, every class by the same fractions.

    A class with too few samples for all parts is in the training part at least. Features are
    standardised with the training part's mean and standard deviation; one that is constant there
    is only centred.

    Args:
        dataset: With N samples.
        fractions: Shares of the training, held-out and test part; they sum to 1.
        seed: The same seed gives the same parts.

    Raises:
        ConfigError: The fractions are impossible, or a part that was asked for would be empty.
    """
    _check_fractions(fractions)
    rng = np.random.default_rng(seed)
    labels = dataset.labels.numpy()
    parts = _stratified_parts(labels, dataset.num_classes, fractions, rng)
    for name, fraction, rows in zip(PARTS, fractions, parts, strict=True):
        if fraction > 0 and not len(rows):
            raise ConfigError(
                f"fractions={fractions}: the {name} part of dataset {dataset.name!r} would be "
                f"empty, with {len(dataset)} samples of {dataset.num_classes} classes"
            )
    features = _standardise(dataset.features.double(), torch.from_numpy(parts[0]))
    training, held_out, test = ((features[rows], dataset.labels[rows]) for rows in parts)
    return TabularSplits(training, held_out, test, dataset.num_classes)


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    possible = len(fractions) == 3 and min(fractions) >= 0 and fractions[0] > 0
    if not (possible and abs(sum(fractions) - 1) <= 1e-6):
        raise ConfigError(
            f"fractions={fractions}; they must be three numbers of at least 0 that sum to 1, the "
            "first (training) above 0"
        )


def _stratified_parts(
    labels: NDArray[np.int64],
    num_classes: int,
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Return the rows of each part, in random order."""
    ends = np.cumsum(fractions)[:2]
    by_class = []
    for label in range(num_classes):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.maximum(np.round(ends * len(rows)), 1).astype(int)
        by_class.append(np.split(rows, cuts))
    return [rng.permutation(np.concatenate(part)) for part in zip(*by_class, strict=True)]


def _standardise(features: Tensor, training_rows: Tensor) -> Tensor:
    training = features[training_rows]
    std, mean = torch.std_mean(training, dim=0, correction=0)
    # Rounding leaves a constant feature a spread of its last digit.
    constant = (training == training[:1]).all(dim=0)
    return ((features - mean) / std.masked_fill(constant, 1.0)).float()
