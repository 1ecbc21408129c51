"""Table 1: tabular classification by likelihood, by fixed rewards and by a learned one."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from mbrl_bilevel.config.tables import ClassificationConfig, Table1Config
from mbrl_bilevel.data.tabular import TabularDataset, load_tabular
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.experiments.reproduce.outcome import Outcome
from mbrl_bilevel.experiments.reproduce.rows import Rows
from mbrl_bilevel.experiments.reproduce.table1_report import make_report
from mbrl_bilevel.experiments.reproduce.tabular_methods import (
    METHODS,
    OUR_LABEL,
    OURS,
    FittedClassifier,
    Method,
    fit_bilevel,
)
from mbrl_bilevel.experiments.reproduce.tabular_metrics import classification_metrics
from mbrl_bilevel.experiments.reproduce.tabular_plot import accuracy_and_likelihood
from mbrl_bilevel.experiments.reproduce.tabular_task import ClassificationTask, make_task


def num_fits(config: Table1Config) -> int:
    """Return how many rows `compute` adds."""
    return config.seeds * len(config.datasets) * len(config.models) * (len(METHODS) + 1)


def load_datasets(config: ClassificationConfig) -> list[TabularDataset]:
    """Read all datasets of a table, and see that each can be split.

    Raises:
        ConfigError: There is no such dataset, it cannot be reached, or it is too small.
        DatasetError: One is damaged.
    """
    datasets = [load_tabular(name) for name in config.datasets]
    for dataset in datasets:
        make_task(dataset, config.models[0], config, config.seed)
    return datasets


def compute(config: Table1Config, datasets: list[TabularDataset], rows: Rows) -> Outcome:
    """Fit each method to each dataset with each model and seed; every fit is a row.

    Raises:
        MBRLError: A loss is not finite; the message names dataset, model, method and seed.
    """
    ours = Method(OUR_LABEL, partial(fit_bilevel, config.reward, config.solver))
    methods = METHODS | {OURS: ours}
    for dataset in datasets:
        for model in config.models:
            for seed in range(config.seed, config.seed + config.seeds):
                task = make_task(dataset, model, config, seed)
                for name, method in methods.items():
                    key = {"dataset": dataset.name, "model": model, "method": name, "seed": seed}
                    rows.add(key, partial(fit_row, key, partial(method.fit, task), task))
    finished = rows.to_list()
    results = {"table": "table1", "results": finished}
    labels = {name: method.label for name, method in methods.items()}
    figure = accuracy_and_likelihood(finished, labels, "method")
    return Outcome(results, make_report(finished, labels, config), {"table1": figure})


def fit_row(
    key: dict[str, Any], fit: Callable[[], FittedClassifier], task: ClassificationTask
) -> dict[str, Any]:
    """Return what follows `key` in its row: the test metrics of what `fit` returns.

    Raises:
        MBRLError: A loss is not finite; the message begins with the key.
    """
    try:
        fitted = fit()
        x, y = task.splits.test
        metrics = classification_metrics(fitted.logits_fn(x), y)
        if not math.isfinite(metrics["nll"]):
            raise MBRLError(f"test NLL {metrics['nll']}; it must be finite")
    except MBRLError as error:
        where = ", ".join(f"{name} {value}" for name, value in key.items())
        raise type(error)(f"{where}: {error}") from None
    return {
        **metrics,
        "num_updates": fitted.num_updates,
        "beta": fitted.beta,
        "learned_beta": fitted.learned_beta,
    }
