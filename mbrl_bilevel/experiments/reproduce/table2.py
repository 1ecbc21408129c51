"""Table 2: which families of rewards, and which hypergradient solvers, learn which classifier."""

from functools import partial
from time import perf_counter

from mbrl_bilevel.config.tables import Table2Config
from mbrl_bilevel.data.tabular import TabularDataset
from mbrl_bilevel.experiments.reproduce.outcome import Advance, Outcome
from mbrl_bilevel.experiments.reproduce.table1 import fit_row
from mbrl_bilevel.experiments.reproduce.table2_report import make_report
from mbrl_bilevel.experiments.reproduce.tabular_methods import (
    OURS,
    fit_reward,
    train_for_learning,
)
from mbrl_bilevel.experiments.reproduce.tabular_plot import accuracy_and_likelihood
from mbrl_bilevel.experiments.reproduce.tabular_task import make_task


def variants(config: Table2Config) -> list[tuple[str, str]]:
    """Return the pairs of a family and a solver: a row of the table each."""
    by_family: list[tuple[str, str]] = [(family, config.solvers[0]) for family in config.rewards]
    return by_family + [(config.rewards[0], solver) for solver in config.solvers[1:]]


def num_fits(config: Table2Config) -> int:
    """Return how often `compute` calls `advance`."""
    return config.seeds * len(config.datasets) * len(config.models) * len(variants(config))


def compute(config: Table2Config, datasets: list[TabularDataset], advance: Advance) -> Outcome:
    """Learn each reward by each solver, for each dataset, model and seed; each is a row.

    The models are trained once a seed: they are the same for all rewards.

    Raises:
        MBRLError: A loss is not finite; the message names the row.
    """
    rows = []
    for dataset in datasets:
        for model in config.models:
            for seed in range(config.seed, config.seed + config.seeds):
                task = make_task(dataset, model, config, seed)
                trained, beta = train_for_learning(task)
                for family, solver in variants(config):
                    row = {
                        "dataset": dataset.name,
                        "model": model,
                        "method": OURS,
                        "reward": family,
                        "solver": solver,
                        "variant": f"{family}, {solver}",
                        "seed": seed,
                    }
                    fit = partial(fit_reward, trained, beta, family, solver, config)
                    start = perf_counter()
                    rows.append(fit_row(row, fit, task))
                    rows[-1]["wall_time_s"] = perf_counter() - start
                    advance()
    results = {"table": "table2", "results": rows}
    labels = {row["variant"]: row["variant"] for row in rows}
    figure = accuracy_and_likelihood(rows, labels, "variant")
    return Outcome(results, make_report(rows, config), {"table2": figure})
