"""Reads a table from a CSV file.

The separator is a comma. A first row without any number names the columns; a file without one is
read as data from its first row, its columns being called `0`, `1`, ...
"""

import csv
from pathlib import Path

import numpy as np

from mbrl_bilevel.data.tabular.dataset import TabularDataset, make_dataset
from mbrl_bilevel.errors import ConfigError, DatasetError

Rows = list[tuple[str, list[str]]]
"""The cells of each row, behind how messages call it."""


def read_csv(path: Path, target: str | None = None) -> TabularDataset:
    """Read numeric features and a class, which may be text, from each row.

    Args:
        path: The file.
        target: Name of the column with the class; None: the last one.

    Raises:
        ConfigError: There is no such file or column.
        DatasetError: The rows differ in length, a feature is not a finite number, a class is
            missing, or there are fewer than two classes.
    """
    name = str(path)
    column_names, rows = _read_rows(path)
    label_column = _find_column(name, column_names, target)
    labels = [cells[label_column] for _, cells in rows]
    for (where, _), label in zip(rows, labels, strict=True):
        if not label:
            raise DatasetError(
                f"dataset {name!r}, {where}: no class in column {column_names[label_column]!r}"
            )
    feature_columns = [i for i in range(len(column_names)) if i != label_column]
    feature_names = [column_names[i] for i in feature_columns]
    features = np.empty((len(rows), len(feature_columns)))
    for number, (where, cells) in enumerate(rows):
        for place, column in enumerate(feature_columns):
            value = _number(cells[column])
            if value is None:
                raise DatasetError(
                    f"dataset {name!r}, {where}: feature {column_names[column]!r} is "
                    f"{cells[column]!r}; features must be numbers (encode text as numbers first)"
                )
            features[number, place] = value
    return make_dataset(name, features, labels, feature_names, [where for where, _ in rows])


def _read_rows(path: Path) -> tuple[list[str], Rows]:
    """Return the columns' names and the rows of data."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [
                (f"line {reader.line_num}", [cell.strip() for cell in cells])
                for cells in reader
                if any(cell.strip() for cell in cells)
            ]
    except FileNotFoundError:
        raise ConfigError(f"dataset file {str(path)!r} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"dataset {str(path)!r} is damaged or no CSV file: {error}") from error
    if not rows:
        raise DatasetError(f"dataset {str(path)!r} is empty")
    num_columns = len(rows[0][1])
    for where, cells in rows:
        if len(cells) != num_columns:
            raise DatasetError(
                f"dataset {str(path)!r}, {where}: {len(cells)} cells, but {rows[0][0]} has "
                f"{num_columns}; cells are separated by commas"
            )
    if all(_number(cell) is None for cell in rows[0][1]):
        return rows[0][1], rows[1:]
    return [str(i) for i in range(num_columns)], rows


def _find_column(name: str, column_names: list[str], target: str | None) -> int:
    if target is None:
        return len(column_names) - 1
    if target not in column_names:
        raise ConfigError(
            f"dataset {name!r} has no column {target!r} (target); it has {', '.join(column_names)}"
        )
    return column_names.index(target)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
