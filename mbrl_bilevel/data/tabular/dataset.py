"""A table of features and classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.errors import DatasetError


@dataclass(frozen=True)
class TabularDataset:
    """N samples of D features and a class each.

    Attributes:
        features: As recorded, `[N, D]`, float32.
        labels: Classes `[N]`, int64, from 0 to C - 1; each of them occurs.
        feature_names: D of them.
        class_names: C of them.
        name: As it was asked for.
    """

    features: Tensor
    labels: Tensor
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)


def make_dataset(
    name: str,
    features: NDArray[Any],
    labels: list[str],
    feature_names: list[str],
    rows: list[str] | None = None,
) -> TabularDataset:
    """Return the dataset, its classes sorted by name, or by value where all are numbers.

    Args:
        name: Of the dataset.
        features: Numbers `[N, D]`.
        labels: The class of each row; classes that no row has do not exist.
        feature_names: D of them.
        rows: How messages call the rows; None: `row 0`, `row 1`, ...

    Raises:
        DatasetError: There is nothing to learn from it: no feature, fewer than two classes, or a
            value that is missing, infinite, or beyond float32.
    """
    if not feature_names or not labels:
        raise DatasetError(
            f"dataset {name!r} has {len(labels)} rows of {len(feature_names)} features; it must "
            "have at least one of both"
        )
    with np.errstate(over="ignore"):  # what does not fit into float32 is found as infinite
        values = np.ascontiguousarray(features, dtype=np.float32)
    if not np.isfinite(values).all():
        row, column = (int(index) for index in np.argwhere(~np.isfinite(values))[0])
        where = f"row {row}" if rows is None else rows[row]
        raise DatasetError(
            f"dataset {name!r}, {where}: feature {feature_names[column]!r} is "
            f"{features[row, column]}; allowed: finite numbers, none missing"
        )
    class_names = sorted(set(labels), key=_numbers_first)
    if len(class_names) < 2:
        raise DatasetError(
            f"dataset {name!r} has the single class {class_names[0]!r}; a classifier needs two"
        )
    index = {label: number for number, label in enumerate(class_names)}
    return TabularDataset(
        features=torch.from_numpy(values),
        labels=torch.tensor([index[label] for label in labels]),
        feature_names=tuple(feature_names),
        class_names=tuple(class_names),
        name=name,
    )


def _numbers_first(label: str) -> tuple[bool, float, str]:
    try:
        return (False, float(label), label)
    except ValueError:
        return (True, 0.0, label)
