"""Table 3: dynamics models of raw next observations, trained by each method of the paper."""

import math
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.config.table3 import Table3Config
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.data.datasets import EpisodeDataset, open_dataset
from mbrl_bilevel.errors import DatasetError, MBRLError
from mbrl_bilevel.experiments.recorded import some_rows
from mbrl_bilevel.experiments.reproduce.outcome import Outcome
from mbrl_bilevel.experiments.reproduce.rows import Rows
from mbrl_bilevel.experiments.reproduce.table3_methods import METHODS
from mbrl_bilevel.experiments.reproduce.table3_plot import error_and_likelihood
from mbrl_bilevel.experiments.reproduce.table3_report import make_report
from mbrl_bilevel.experiments.reproduce.table3_task import Data, Task
from mbrl_bilevel.runs import derive_seed


def num_fits(config: Table3Config) -> int:
    """Return how many rows `compute` adds."""
    return config.seeds * len(METHODS)


def load_dataset(config: Table3Config) -> EpisodeDataset:
    """Read the dataset that the settings name.

    Raises:
        ConfigError: There is none.
        DatasetError: It is damaged, or has too few episodes to be split.
    """
    dataset = open_dataset(config.dataset)
    dataset.split(config.split.fractions, seed=config.seed)
    return dataset


def compute(config: Table3Config, dataset: EpisodeDataset, rows: Rows) -> Outcome:
    """Fit each method with each seed; in the results, every fit is a row.

    Raises:
        DatasetError: The training targets of a seed have a singular covariance.
        MBRLError: A loss is not finite; the message names method and seed.
    """
    for seed in range(config.seed, config.seed + config.seeds):
        training, held_out, test = _deal_out(dataset, config, seed)
        for method in METHODS:
            # Anew for each method: all of a seed start from the same weights.
            generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
            task = Task(training, held_out, config, generator)
            rows.add({"method": method, "seed": seed}, partial(_fit, method, seed, task, test))
    finished = rows.to_list()
    results = {"table": "table3", "results": finished}
    report = make_report(finished, dataset.name, config)
    return Outcome(results, report, {"table3": error_and_likelihood(finished)})


def _fit(method: str, seed: int, task: Task, test: Data) -> dict[str, Any]:
    start = perf_counter()
    try:
        fitted = METHODS[method].fit(task)
        wall_time_s = perf_counter() - start
        rmse, nll = fitted.judge(test)
        if not (math.isfinite(rmse) and math.isfinite(nll)):
            raise MBRLError(f"test RMSE {rmse}, NLL {nll}; both must be finite")
    except MBRLError as error:
        raise type(error)(f"method {method}, seed {seed}: {error}") from None
    return {
        "rmse": rmse,
        "nll": nll,
        "num_updates": fitted.num_updates,
        "wall_time_s": wall_time_s,
    }


def _deal_out(dataset: EpisodeDataset, config: Table3Config, seed: int) -> list[Data]:
    """Return training, held-out and test data, of different episodes: as `fit` deals them out."""
    limits = (config.max_training_steps, *[config.split.max_judged_steps] * 2)
    parts = dataset.split(config.split.fractions, derive_seed(seed, "split"))
    data = [
        _data(dataset, some_rows(dataset, episodes, limit, seed))
        for episodes, limit in zip(parts, limits, strict=True)
    ]
    covariance = data[0][1].double().mT.cov()
    # In float32, as the rewards are.
    if torch.linalg.cholesky_ex(covariance.float().double()).info != 0:
        raise DatasetError(
            f"dataset {dataset.name}: the next observations of the training episodes of seed "
            f"{seed} have a singular covariance, and method pg_covariance needs its inverse; "
            "allowed: dimensions that change and do not determine one another"
        )
    return data


def _data(dataset: EpisodeDataset, rows: NDArray[np.int64]) -> Data:
    steps = dataset.steps[rows]
    codec = ActionCodec(dataset.action_space)
    # Raw, but for discrete actions: their numbers mean nothing.
    actions: Tensor = torch.as_tensor(steps.actions)
    if codec.is_discrete:
        actions = codec.encode(actions)
    x = torch.cat([torch.as_tensor(steps.obs), actions], dim=-1)
    return x, torch.as_tensor(steps.next_obs)
