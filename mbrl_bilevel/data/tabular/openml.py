"""Fetches a table from OpenML, through scikit-learn, which keeps it in its own cache."""

import difflib
import warnings

from mbrl_bilevel.data.tabular.dataset import TabularDataset, make_dataset
from mbrl_bilevel.errors import ConfigError

NAMES = {"credit_default": "default-of-credit-card-clients", "poker": "poker-hand"}
"""OpenML's names of data sets that are known by another one."""


def fetch_openml_dataset(
    name: str, target: str | None, built_in: tuple[str, ...]
) -> TabularDataset:
    """Return a dataset of OpenML by its name; text features become the numbers of their categories.

    Args:
        name: As OpenML has it, or one of `NAMES`.
        target: Name of the column with the class; None: OpenML's default.
        built_in: What needs no network, for the message.

    Raises:
        ConfigError: OpenML has no such dataset, or cannot be reached.
        DatasetError: It is not one of finite features and at least two classes.
    """
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            # About several versions of a name; the oldest active one is taken, always the same.
            warnings.simplefilter("ignore", UserWarning)
            bunch = fetch_openml(
                name=NAMES.get(name, name),
                target_column=target or "default-target",
                as_frame=False,
                parser="liac-arff",
                n_retries=1,
            )
    except Exception as error:  # URL errors, OpenML's own, and what its parsers raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        near = difflib.get_close_matches(name, built_in, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"dataset {name!r} is neither built in ({', '.join(built_in)}{hint}) nor a CSV file, "
            f"and OpenML did not give one of that name: {reason}"
        ) from error
    features = bunch.data if not hasattr(bunch.data, "toarray") else bunch.data.toarray()
    labels = [str(label) for label in bunch.target]
    return make_dataset(name, features, labels, list(bunch.feature_names))
