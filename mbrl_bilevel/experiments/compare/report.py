"""The report on a comparison, in Markdown."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mbrl_bilevel.config.compare import CompareConfig
from mbrl_bilevel.experiments.compare.statistics import (
    AGGREGATES,
    Estimate,
    estimate,
    improvement,
    interquartile_mean,
)
from mbrl_bilevel.experiments.compare.table import Row, Table, make_table, method_of
from mbrl_bilevel.experiments.reproduce.outcome import markdown_table

FEW_SEEDS = 5


def make_report(
    config: CompareConfig,
    rows: Sequence[Row],
    commands: Sequence[str],
    beside: Sequence[Row] = (),
) -> str:
    """Return the report.

    Args:
        config: What was compared.
        rows: As in results.jsonl.
        commands: What was typed, in order.
        beside: Finished rows of methods that were run elsewhere.
    """
    table = make_table(config, [*rows, *beside])
    parts = [f"# {config.name}", "\n".join(["```", *commands, "```"])]
    if table.tasks:
        parts += [
            "## Final returns",
            _returns(config, table),
            "The interquartile mean (IQM) over seeds, and its 95% interval (bootstrap).",
            "## All tasks",
            _aggregates(config, table),
            _scales(config, table),
            _improvements(config, table),
        ]
    parts += [
        _counts(config, rows, make_table(config, rows)),
        _beside(config, beside),
        _failures(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _returns(config: CompareConfig, table: Table) -> str:
    lines = []
    for method in table.methods:
        cells = []
        for task in table.tasks:
            values = table.returns.get((task, method))
            cells.append(
                "-"
                if values is None
                else shown(estimate(interquartile_mean, [values], config.resamples), 1)
            )
        lines.append([method, *cells])
    return markdown_table(["method", *table.tasks], lines)


def _aggregates(config: CompareConfig, table: Table) -> str:
    lines = []
    for method in table.methods:
        scores = table.scores(method)
        if scores is not None:
            estimates = (estimate(each, scores, config.resamples) for each in AGGREGATES.values())
            lines.append([method, *(shown(each, 3) for each in estimates)])
    return markdown_table(["method", *AGGREGATES], lines)


def _scales(config: CompareConfig, table: Table) -> str:
    given = {task.label for task in config.tasks if task.score is not None}
    texts = [
        f"{task} {low:g} to {high:g}{'' if task in given else ' (least and largest seen)'}"
        for task, (low, high) in table.scales.items()
    ]
    return f"Returns are scaled to scores from 0 to 1 task by task: {'; '.join(texts)}."


def _improvements(config: CompareConfig, table: Table) -> str:
    lines = []
    for reference in table.methods:
        if reference.partition(", ")[0] != config.reference_label:
            continue
        own = table.scores(reference)
        for other in table.methods:
            theirs = table.scores(other)
            if other == reference or own is None or theirs is None:
                continue
            found = estimate(improvement, [*own, *theirs], config.resamples)
            lines.append([reference, other, shown(found, 2), _paired(table, reference, other)])
    if not lines:
        return ""
    header = ["method", "against", "probability of improvement", "better on the same seed"]
    return markdown_table(header, lines)


def _paired(table: Table, one: str, other: str) -> str:
    """Count the seeds, over all tasks, in which one is better; they start from the same states."""
    pairs = table.pairs(one, other)
    return f"{(pairs[:, 0] > pairs[:, 1]).sum()} of {len(pairs)}"


def _counts(config: CompareConfig, rows: Sequence[Row], table: Table) -> str:
    seeds = f"Seeds {config.seed} to {config.seed + config.seeds - 1}"
    if config.seeds == 1:
        seeds = f"Seed {config.seed}"
    finished = sum(row["status"] == "completed" for row in rows)
    cells = [(task, method) for task in table.tasks for method in table.methods]
    fewest = min((len(table.seeds.get(cell, [])) for cell in cells), default=0)
    few = ""
    if fewest < FEW_SEEDS:
        missing = "" if fewest == config.seeds else f"; {fewest} have finished everywhere"
        few = f"{missing}; fewer than five seeds: an impression, no result"
    return f"{seeds}{few}. {finished} cells finished, {len(rows) - finished} failed."


def _beside(config: CompareConfig, beside: Sequence[Row]) -> str:
    counts = Counter((method_of(row), row["task"]) for row in beside)
    if not counts:
        return ""
    runs = ", ".join(f"{method} on {task}: {n}" for (method, task), n in counts.items())
    few = "" if min(counts.values()) >= FEW_SEEDS else "; fewer than five: an impression"
    return f"Runs of other methods ({', '.join(config.beside)}): {runs}{few}."


def _failures(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row["status"] != "completed"]
    if not failed:
        return ""
    lines = [
        f"- {row['task']}, {method_of(row)}, seed {row['seed']}: {row.get('error', row['status'])}"
        for row in failed
    ]
    return "\n".join(["## Failed\n", *lines])


def shown(found: Estimate, digits: int) -> str:
    """Return `value [low, high]` as text, the value alone without an interval."""
    text = f"{found.value:.{digits}f}"
    if math.isnan(found.low):
        return text
    return f"{text} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def hparams_of(row: Row) -> dict[str, Any]:
    """Return what TensorBoard's HParams shows of a row."""
    axes = {key: value if isinstance(value, str | float | int) else str(value)
            for key, value in row["axes"].items()}  # fmt: skip
    return {"task": row["task"], "objective": row["objective"], "seed": row["seed"], **axes}
