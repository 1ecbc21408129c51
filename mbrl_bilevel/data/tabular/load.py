"""Finds a table by its name or path."""

from dataclasses import replace
from pathlib import Path

from mbrl_bilevel.data.tabular.csv_reader import read_csv
from mbrl_bilevel.data.tabular.dataset import TabularDataset, make_dataset
from mbrl_bilevel.data.tabular.openml import fetch_openml_dataset
from mbrl_bilevel.errors import ConfigError

BUILT_IN = ("wine", "iris", "breast_cancer", "digits")
"""Datasets that scikit-learn ships: they need no network."""


def load_tabular(name_or_path: str | Path, target: str | None = None) -> TabularDataset:
    """Read a classification dataset, features as they were recorded.

    Args:
        name_or_path: One of `BUILT_IN`, a CSV file (a path that ends in .csv), or a name of OpenML,
            such as `spambase` (`openml.NAMES` has others for two of UCI's).
        target: Name of the column with the class; None: a file's last one, OpenML's default.

    Raises:
        ConfigError: There is no such dataset or column.
        DatasetError: It is damaged, or nothing can be learned from it.
    """
    text = str(name_or_path)
    if text in BUILT_IN:
        if target is not None:
            raise ConfigError(f"target={target!r}: dataset {text!r} has one target and no choice")
        return _load_built_in(text)
    # A path by its form, so that a file's absence is not looked up as a name on the network.
    if text.lower().endswith(".csv") or Path(text).is_file():
        return read_csv(Path(text), target)
    if not text or Path(text).name != text:
        raise ConfigError(
            f"dataset {text!r} does not exist; allowed: {', '.join(BUILT_IN)}, a CSV file, or the "
            "name of a dataset on OpenML"
        )
    return fetch_openml_dataset(text, target, BUILT_IN)


def _load_built_in(name: str) -> TabularDataset:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    labels = [str(label) for label in bunch.target]
    dataset = make_dataset(name, bunch.data, labels, list(bunch.feature_names))
    return replace(dataset, class_names=tuple(str(name) for name in bunch.target_names))
