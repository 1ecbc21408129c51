"""What the reports on tables 1 and 2 share."""

from collections.abc import Mapping, Sequence
from typing import Any

from mbrl_bilevel.config.tables import ClassificationConfig
from mbrl_bilevel.experiments.reproduce.outcome import seeds_text
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown

Row = Mapping[str, Any]

METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "ece": "ECE",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC-AUC",
}


def values_of(rows: Sequence[Row], key: str) -> list[Any]:
    """Return the different entries of `key`, in order."""
    return list(dict.fromkeys(row[key] for row in rows))


def over_seeds(rows: Sequence[Row], quantity: str, **which: Any) -> tuple[float, float]:
    """Return mean and half the width of the 95% interval of the rows with the entries `which`."""
    chosen = [row for row in rows if all(row[key] == value for key, value in which.items())]
    return mean_and_margin([row[quantity] for row in chosen])


def cell(rows: Sequence[Row], quantity: str, digits: int = 3, **which: Any) -> str:
    """Return `mean +- margin` of a quantity; `-` where it is not defined."""
    chosen = [row for row in rows if all(row[key] == value for key, value in which.items())]
    if any(row[quantity] is None for row in chosen):
        return "-"
    return shown(*over_seeds(chosen, quantity), digits)


def protocol_text(config: ClassificationConfig) -> str:
    """Return what was trained on what, in a paragraph of Markdown."""
    layers = "-".join(map(str, config.hidden_sizes))
    training, held_out, test = config.fractions
    return f"""{seeds_text(config.seed, config.seeds)} On test rows, after training. Each seed deals
the rows out anew, class by class ({training:.0%} training, {held_out:.0%} held out, {test:.0%}
test), and draws weights of its own; features are standardised by the training rows. AdamW, at most
{config.num_updates} updates on all rows at once, rate {config.lr:g} (logistic:
{config.logistic_lr:g}), weight decay {config.weight_decay:g}; the mlp has hidden layers {layers}.
The number of updates is that of the best likelihood of rows the model was not trained on.
Temperature {config.temperature:g}, expected rewards: {config.estimator}. NLL in nats a row, ECE
with 15 bins."""
