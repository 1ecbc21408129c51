"""The picture of tables 1 and 2."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from mbrl_bilevel.evaluation.plots import BLUE, ORANGE, STYLE, WIDTH_INCHES
from mbrl_bilevel.experiments.reproduce.tabular_report import Row, over_seeds, values_of

COLORS = {"logistic": ORANGE, "mlp": BLUE}


def accuracy_and_likelihood(rows: Sequence[Row], labels: Mapping[str, str], key: str) -> Figure:
    """Draw accuracy and NLL with their 95% intervals, a row of panels a dataset.

    Args:
        rows: As in results.json.
        labels: What the entries of `key` are called, in the order they are drawn in.
        key: Which entry of a row tells the methods apart.
    """
    datasets = values_of(rows, "dataset")
    height = 0.8 + len(datasets) * (0.8 + 0.25 * len(labels))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.3 * WIDTH_INCHES, height), layout="constrained")
        panels = figure.subplots(len(datasets), 2, squeeze=False, sharey=True)
        for (left, right), dataset in zip(panels, datasets, strict=True):
            chosen = [row for row in rows if row["dataset"] == dataset]
            for axes, quantity in ((left, "accuracy"), (right, "nll")):
                _draw(axes, chosen, list(labels), key, quantity)
                axes.margins(x=0.1)
            left.set_title(f"{dataset}: test accuracy")
            right.set(title=f"{dataset}: test NLL, nats", xscale="log")
            # By default intervals of less than a decade get labels that overlap.
            right.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            right.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            right.xaxis.set_minor_formatter(NullFormatter())
            left.set_yticks(range(len(labels)), list(labels.values()))
            left.set_ylim(len(labels) - 0.5, -0.5)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center")
    return figure


def _draw(axes: Axes, rows: Sequence[Row], names: list[str], key: str, quantity: str) -> None:
    models = values_of(rows, "model")
    for place, model in enumerate(models):
        statistics = np.array(
            [over_seeds(rows, quantity, **{"model": model, key: name}) for name in names]
        )
        axes.errorbar(
            statistics[:, 0],
            np.arange(len(names)) + 0.2 * (place - 0.5 * (len(models) - 1)),
            xerr=np.nan_to_num(statistics[:, 1]),
            fmt="o",
            color=COLORS[model],
            capsize=3,
            elinewidth=1.4,
            label=model,
        )
