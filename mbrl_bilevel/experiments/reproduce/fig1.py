"""Figure 1: test error and likelihood of each method against the temperature."""

from typing import Any

from mbrl_bilevel.config.reproduce import Fig1Config
from mbrl_bilevel.experiments.reproduce.fig1_plot import against_temperature
from mbrl_bilevel.experiments.reproduce.methods import (
    ENTROPY,
    METHODS,
    WITHOUT_TEMPERATURE,
    fit,
    judge,
)
from mbrl_bilevel.experiments.reproduce.outcome import (
    Advance,
    Outcome,
    markdown_table,
    seeds_text,
)
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown
from mbrl_bilevel.experiments.reproduce.synthetic import NOISE_STD, draw_inputs, make_data
from mbrl_bilevel.runs import derive_seed

QUANTITIES = ("rmse", "nll")


def num_fits(config: Fig1Config) -> int:
    """Return how often `compute` calls `advance`."""
    once = len(WITHOUT_TEMPERATURE)
    return config.seeds * (once + (len(METHODS) - once) * len(config.temperatures))


def compute(config: Fig1Config, advance: Advance) -> Outcome:
    """Fit each method at each temperature, with each seed.

    In the results, a method has for each of `rmse` and `nll` the means over seeds, half the widths
    of their 95% intervals and the values of the seeds, one entry a temperature.
    """
    values: dict[str, list[list[dict[str, float]]]] = {name: [] for name in METHODS}
    for seed in range(config.seed, config.seed + config.seeds):
        data = make_data(config, seed)
        test_x = draw_inputs(config.num_test, derive_seed(seed, "test inputs"))
        for method in METHODS:
            row = []
            temperatures = config.temperatures
            for temperature in temperatures[:1] if method in WITHOUT_TEMPERATURE else temperatures:
                quality = judge(fit(method, data, config, temperature, seed), test_x)
                row.append({"rmse": quality.rmse, "nll": quality.nll})
                advance()
            values[method].append(row * (len(temperatures) // len(row)))
    results = {
        "figure": "fig1",
        "temperatures": list(config.temperatures),
        "methods": {
            method: {quantity: _over_seeds(rows, quantity) for quantity in QUANTITIES}
            for method, rows in values.items()
        },
    }
    return Outcome(results, _report(config, results), {"fig1": against_temperature(results)})


def _over_seeds(rows: list[list[dict[str, float]]], quantity: str) -> dict[str, Any]:
    by_temperature = [[at[quantity] for at in ats] for ats in zip(*rows, strict=True)]
    statistics = [mean_and_margin(seeds) for seeds in by_temperature]
    return {
        "mean": [mean for mean, _ in statistics],
        "margin": [margin for _, margin in statistics],
        "seeds": by_temperature,
    }


def _report(config: Fig1Config, results: dict[str, Any]) -> str:
    tables = []
    for quantity, title in (("rmse", "Test RMSE"), ("nll", "Test NLL, nats a dimension")):
        rows = []
        for method, label in METHODS.items():
            entry = results["methods"][method][quantity]
            texts = [shown(*pair, 4) for pair in zip(entry["mean"], entry["margin"], strict=True)]
            rows.append([label, *texts])
        header = ["method", *(f"λ = {temperature:g}" for temperature in config.temperatures)]
        tables.append(f"## {title}\n\n{markdown_table(header, rows)}")
    return f"""# Figure 1: error and likelihood against the temperature

{tables[0]}

{tables[1]}

{seeds_text(config.seed, config.seeds)} In expectation over the noise of the targets; the best
possible RMSE is {NOISE_STD:.4f}, the best possible NLL {ENTROPY:.4f}. MSE and NLL have no
temperature: they are fitted once a seed.
"""
