"""The report on table 2."""

from collections.abc import Sequence

from mbrl_bilevel.config.tables import Table2Config
from mbrl_bilevel.experiments.reproduce.outcome import markdown_table
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin
from mbrl_bilevel.experiments.reproduce.tabular_report import (
    Row,
    cell,
    protocol_text,
    values_of,
)


def make_report(rows: Sequence[Row], config: Table2Config) -> str:
    """Return the report in Markdown; `rows` as in results.json."""
    sections = []
    for model in values_of(rows, "model"):
        for quantity, title in (("accuracy", "accuracy"), ("nll", "NLL"), ("ece", "ECE")):
            table = _table([row for row in rows if row["model"] == model], quantity)
            sections.append(f"## {model}: {title}\n\n{table}\n")
    tables = "\n".join(sections)
    return f"""# Table 2: families of learned rewards and hypergradient solvers

{protocol_text(config)}

All rewards of a seed are learned on the same {config.num_folds} folds, from the same models, in
{config.outer_steps} outer steps: first `beta I`, then the rest of the family. `state_dependent`: a
diagonal U(x), its logarithm linear in x. Time: of learning the reward, without the models.

{tables}"""


def _table(rows: Sequence[Row], quantity: str) -> str:
    datasets = values_of(rows, "dataset")
    table = []
    for variant in values_of(rows, "variant"):
        chosen = [row for row in rows if row["variant"] == variant]
        cells = [cell(chosen, quantity, dataset=dataset) for dataset in datasets]
        time, _ = mean_and_margin([row["wall_time_s"] for row in chosen])
        mean, _ = mean_and_margin([row[quantity] for row in chosen])
        table.append([variant, *cells, f"{mean:.3f}", f"{time:.2f} s"])
    return markdown_table(["reward, solver", *datasets, "mean", "time"], table)
