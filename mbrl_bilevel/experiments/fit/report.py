"""The report on a fit: every metric and objective with its interval over seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mbrl_bilevel.config.fit import FitConfig
from mbrl_bilevel.experiments.reproduce.outcome import markdown_table
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown

METRICS = {
    "rmse": "RMSE",
    "rmse_raw": "RMSE, raw units",
    "nll": "NLL per dimension",
    "ece": "calibration error",
    "coverage_50": "50% coverage",
    "coverage_90": "90% coverage",
    "coverage_95": "95% coverage",
    "sharpness": "mean std",
    "persistence_rmse": "RMSE of no change",
    "wall_time_s": "training time, s",
}

Row = Mapping[str, Any]


def objectives_of(rows: Sequence[Row]) -> list[str]:
    """Return the objectives' labels, in the order of the rows."""
    return list(dict.fromkeys(row["objective"] for row in rows))


def over_seeds(rows: Sequence[Row], objective: str, *keys: str) -> tuple[float, float]:
    """Return mean and half the width of the 95% interval of a value of an objective.

    Args:
        rows: As in results.json.
        objective: Its label.
        keys: Where the value stands in a row, from the outside in.

    Returns:
        Not finite where the value of a seed is not.
    """
    values = [_value(row, keys) for row in rows if row["objective"] == objective]
    if not all(math.isfinite(value) for value in values):
        return math.inf, math.nan
    return mean_and_margin(values)


def make_report(rows: Sequence[Row], dataset: str, config: FitConfig) -> str:
    """Return the report in Markdown; `rows` as in results.json, at least one."""
    objectives = objectives_of(rows)
    seeds = sorted({row["seed"] for row in rows})
    model, split = config.model, config.split
    members = "one member" if model.ensemble_size == 1 else f"{model.ensemble_size} members"
    return f"""# Dynamics models on {dataset}

{_table(rows, objectives, [((key,), label) for key, label in METRICS.items()], "test episodes")}

RMSE, NLL (nats) and mean std are in units of the standard deviation of the changes of observation
in the training data. Every model: {members}, {model.num_updates} updates on batches of
{model.batch_size}, {model.head} covariances. Optimiser: {_optimizers(config)}.

{_table(rows, objectives, _open_loop_lines(rows), "open loop")}

In units of the standard deviation of the observations in the training data;
{config.open_loop.num_particles} particles.

{_paired_section(rows, objectives)}Seeds: {", ".join(map(str, seeds))}; the mean, and where there
are several +- half of its 95% interval (Student's t). Episodes, dealt out by the seed:
{split.training:.0%} training, {split.held_out:.0%} held out, {split.test:.0%} test.
"""


def _table(
    rows: Sequence[Row],
    objectives: Sequence[str],
    lines: Sequence[tuple[tuple[str, ...], str]],
    title: str,
) -> str:
    cells = [
        [label, *(_shown(*over_seeds(rows, objective, *keys)) for objective in objectives)]
        for keys, label in lines
    ]
    return markdown_table([title, *objectives], cells)


def _open_loop_lines(rows: Sequence[Row]) -> list[tuple[tuple[str, ...], str]]:
    # Episodes differ in length: a k that one seed's test episodes do not reach has no line.
    ks = [k for k in rows[0]["open_loop_rmse"] if all(k in row["open_loop_rmse"] for row in rows)]
    errors = [(("open_loop_rmse", k), f"RMSE, k = {k}") for k in ks]
    coverage = [(("open_loop_coverage_90", k), f"90% coverage, k = {k}") for k in ks]
    persistence = [(("open_loop_persistence", k), f"RMSE of no change, k = {k}") for k in ks]
    return [*errors, *coverage, *persistence]


def _paired_section(rows: Sequence[Row], objectives: Sequence[str]) -> str:
    """Differences between the last objective and each other one, over the seeds of both."""
    last, others = objectives[-1], objectives[:-1]
    by_seed = {name: {r["seed"]: r for r in rows if r["objective"] == name} for name in objectives}
    cells = []
    for other in others:
        seeds = sorted(by_seed[last].keys() & by_seed[other].keys())
        if len(seeds) < 2:
            continue
        differences = [
            [by_seed[last][s][key] - by_seed[other][s][key] for s in seeds]
            for key in ("rmse", "nll")
        ]
        cells.append([f"{last} - {other}", *(_shown(*mean_and_margin(d)) for d in differences)])
    if not cells:
        return ""
    return f"{markdown_table(['paired over seeds', 'RMSE', 'NLL per dimension'], cells)}\n\n"


def _optimizers(config: FitConfig) -> str:
    """`adamw`, or where objectives have their own: `adamw for mse, soap for bilevel`."""
    names = [config.model.to_model_config(objective).optimizer for objective in config.objective]
    if len(set(names)) == 1:
        return names[0]
    pairs = zip(names, config.labels, strict=True)
    return ", ".join(f"{name} for {label}" for name, label in pairs)


def _value(row: Row, keys: Sequence[str]) -> float:
    value: Any = row
    for key in keys:
        value = value[key]
    return float(value)


def _shown(mean: float, margin: float) -> str:
    return shown(mean, margin, 4) if math.isfinite(mean) else "diverged"
