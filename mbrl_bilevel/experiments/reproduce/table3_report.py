"""The report on table 3, beside the published figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from mbrl_bilevel.config.table3 import Table3Config
from mbrl_bilevel.experiments.reproduce.outcome import markdown_table, seeds_text
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown
from mbrl_bilevel.experiments.reproduce.table3_methods import METHODS

Row = Mapping[str, Any]

PUBLISHED: Mapping[str, tuple[str, str]] = {
    "mse": ("1.878", "-"),
    "nll": ("4.594", "0.733"),
    "pg_identity": ("2.414", "7.967"),
    "pg_implicit": ("2.317", "2.323"),
    "pg_trace": ("2.749", "2.867"),
    "pg_covariance": ("6.015", "2.538"),
}
"""RMSE and NLL by Benechehab et al. (2025), on Minari's halfcheetah/medium."""


def over_seeds(rows: Sequence[Row], method: str, quantity: str) -> tuple[float, float]:
    """Return mean and half the width of the 95% interval of a method's `rmse`, say."""
    return mean_and_margin([row[quantity] for row in rows if row["method"] == method])


def make_report(rows: Sequence[Row], dataset: str, config: Table3Config) -> str:
    """Return the report in Markdown; `rows` as in results.json."""
    split = config.split
    layers = "-".join(map(str, config.hidden_sizes))
    header = ["method", "RMSE", "NLL", "paper: RMSE", "paper: NLL", "time"]
    cells = [_cells(rows, method) for method in dict.fromkeys(row["method"] for row in rows)]
    return f"""# Table 3: dynamics models on {dataset}

{markdown_table(header, cells)}

{seeds_text(config.seed, config.seeds)} On test episodes: RMSE in raw units, NLL in nats a dimension
of the next observation. Each method trains the same network ({layers}; means and log-variances) on
raw observations and actions: {config.num_updates} updates of Adam, ours of SOAP (rate
{config.lr:g}, in the last {config.cooldown:.0%} of them falling to 0), each on all data, at
temperature {config.temperature:g}. Episodes, dealt out by the seed:
{split.training:.0%} training, {split.held_out:.0%} held out, {split.test:.0%} test.

\\* MSE has no distribution of its own: with the variances of its held-out residuals, the same at
every input.

The paper's figures are those of its public notebooks on Minari's halfcheetah/medium, other data:
compare the order of the methods, not the numbers.
"""


def _cells(rows: Sequence[Row], method: str) -> list[str]:
    rmse, nll, time = (
        shown(*over_seeds(rows, method, quantity), digits)
        for quantity, digits in (("rmse", 3), ("nll", 3), ("wall_time_s", 1))
    )
    star = " \\*" if method == "mse" else ""
    published = PUBLISHED.get(method, ("-", "-"))
    return [METHODS[method].label, rmse, f"{nll}{star}", *published, f"{time} s"]
