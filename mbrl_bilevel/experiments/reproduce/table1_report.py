"""The report on table 1, beside the published figures."""

from collections.abc import Mapping, Sequence

from mbrl_bilevel.config.tables import Table1Config
from mbrl_bilevel.experiments.reproduce.outcome import markdown_table
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown
from mbrl_bilevel.experiments.reproduce.tabular_methods import OURS
from mbrl_bilevel.experiments.reproduce.tabular_report import (
    METRICS,
    Row,
    cell,
    protocol_text,
    values_of,
)

PUBLISHED: Mapping[str, tuple[str, str, str]] = {
    "nll": (".863", ".924", ".481"),
    "pg_beta_1": (".787", ".724", ".377"),
    "pg_beta_star": (".872", ".927", ".525"),
}
"""Accuracy by Benechehab et al. (2025) on credit_default, spambase and poker."""


def make_report(rows: Sequence[Row], labels: Mapping[str, str], config: Table1Config) -> str:
    """Return the report in Markdown; `rows` as in results.json."""
    sections = []
    for model in values_of(rows, "model"):
        for quantity, title in METRICS.items():
            table = _by_dataset([row for row in rows if row["model"] == model], labels, quantity)
            sections.append(f"## {model}: {title}\n\n{table}\n")
    published = [[labels[name], *figures] for name, figures in PUBLISHED.items()]
    columns = ["method", "credit_default", "spambase", "poker"]
    differences = _differences(rows, labels)
    tables = "\n".join(sections)
    return f"""# Table 1: tabular classification

{protocol_text(config)}

{labels["nll"]} is trained on the training rows and stopped by the held-out ones. All others use
both: the last model is trained on both, for as many updates as is best for {config.num_folds}
models that were each trained on all folds but one. On those folds ours learns its reward
({config.reward}, solver {config.solver}), and temperature scaling its factor.

{tables}
## Ours against the others

Mean difference over seeds, a pair each: accuracy (more is better), NLL (less is better).

{differences}

## Published accuracy

{markdown_table(columns, published)}

Other data, averaged over epochs and splits: compare the order of the methods, not the numbers.
"""


def _by_dataset(rows: Sequence[Row], labels: Mapping[str, str], quantity: str) -> str:
    datasets = values_of(rows, "dataset")
    table = []
    for name, label in labels.items():
        cells = [cell(rows, quantity, dataset=dataset, method=name) for dataset in datasets]
        values = [row[quantity] for row in rows if row["method"] == name]
        mean = "-" if None in values else f"{mean_and_margin(values)[0]:.3f}"
        table.append([label, *cells, mean])
    return markdown_table(["method", *datasets, "mean"], table)


def _differences(rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    table = []
    for model in values_of(rows, "model"):
        for dataset in values_of(rows, "dataset"):
            for name in labels:
                if name == OURS:
                    continue
                chosen = [row for row in rows if (row["model"], row["dataset"]) == (model, dataset)]
                texts = [
                    shown(*mean_and_margin(paired(chosen, name, quantity)))
                    for quantity in ("accuracy", "nll")
                ]
                table.append([f"{dataset}, {model}", labels[name], *texts])
    return markdown_table(["dataset, model", "minus", "accuracy", "NLL"], table)


def paired(rows: Sequence[Row], method: str, quantity: str) -> list[float]:
    """Return ours minus a method, a value a seed."""
    by_seed = {(row["method"], row["seed"]): row[quantity] for row in rows}
    seeds = values_of(rows, "seed")
    return [by_seed[OURS, seed] - by_seed[method, seed] for seed in seeds]
