"""Table 2: which families of rewards, and which hypergradient solvers, learn which classifier."""

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Any

from mbrl_bilevel.config.tables import Table2Config
from mbrl_bilevel.data.tabular import TabularDataset
from mbrl_bilevel.experiments.reproduce.outcome import Outcome
from mbrl_bilevel.experiments.reproduce.rows import Rows
from mbrl_bilevel.experiments.reproduce.table1 import fit_row
from mbrl_bilevel.experiments.reproduce.table2_report import make_report
from mbrl_bilevel.experiments.reproduce.tabular_methods import (
    OURS,
    fit_reward,
    train_for_learning,
)
from mbrl_bilevel.experiments.reproduce.tabular_plot import accuracy_and_likelihood
from mbrl_bilevel.experiments.reproduce.tabular_task import (
    ClassificationTask,
    Trained,
    make_task,
)


def variants(config: Table2Config) -> list[tuple[str, str]]:
    """Return the pairs of a family and a solver: a row of the table each."""
    by_family: list[tuple[str, str]] = [(family, config.solvers[0]) for family in config.rewards]
    return by_family + [(config.rewards[0], solver) for solver in config.solvers[1:]]


def num_fits(config: Table2Config) -> int:
    """Return how many rows `compute` adds."""
    return config.seeds * len(config.datasets) * len(config.models) * len(variants(config))


def compute(config: Table2Config, datasets: list[TabularDataset], rows: Rows) -> Outcome:
    """Learn each reward by each solver, for each dataset, model and seed; each is a row.

    The models are trained once a seed: they are the same for all rewards.

    Raises:
        MBRLError: A loss is not finite; the message names the row.
    """
    for dataset in datasets:
        for model in config.models:
            for seed in range(config.seed, config.seed + config.seeds):
                task = make_task(dataset, model, config, seed)
                # Trained when the first of the rows asks for it: finished ones do not.
                trained = cache(partial(train_for_learning, task))
                for family, solver in variants(config):
                    key = {
                        "dataset": dataset.name,
                        "model": model,
                        "method": OURS,
                        "reward": family,
                        "solver": solver,
                        "variant": f"{family}, {solver}",
                        "seed": seed,
                    }
                    rows.add(key, partial(_fit_row, key, trained, task))
    finished = rows.to_list()
    results = {"table": "table2", "results": finished}
    labels = {row["variant"]: row["variant"] for row in finished}
    figure = accuracy_and_likelihood(finished, labels, "variant")
    return Outcome(results, make_report(finished, config), {"table2": figure})


def _fit_row(
    key: dict[str, Any], trained: Callable[[], tuple[Trained, float]], task: ClassificationTask
) -> dict[str, Any]:
    """Return the test metrics with the reward and the solver that the key names."""
    models, beta = trained()
    start = perf_counter()
    fit = partial(fit_reward, models, beta, key["reward"], key["solver"], task.config)
    row = fit_row(key, fit, task)
    return {**row, "wall_time_s": perf_counter() - start}
