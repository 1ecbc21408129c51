"""Figure 2: the predictive densities that each method has learned, beside the true one."""

from typing import Any

import torch

from mbrl_bilevel.config.reproduce import Fig2Config
from mbrl_bilevel.experiments.reproduce.fig2_plot import densities
from mbrl_bilevel.experiments.reproduce.methods import METHODS, Predictor, fit, judge
from mbrl_bilevel.experiments.reproduce.outcome import (
    Advance,
    Outcome,
    markdown_table,
    seeds_text,
)
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown
from mbrl_bilevel.experiments.reproduce.synthetic import draw_inputs, make_data
from mbrl_bilevel.experiments.reproduce.training import HEAD
from mbrl_bilevel.runs import derive_seed

SHOWN_INPUTS = torch.tensor([[-4.0, -4.0], [-4.0, 4.0], [0.0, 0.0], [4.0, -4.0], [4.0, 4.0]])
"""Where the densities are drawn: the middle of the inputs, and near their corners."""


def num_fits(config: Fig2Config) -> int:
    """Return how often `compute` calls `advance`."""
    return config.seeds * len(METHODS)


def compute(config: Fig2Config, advance: Advance) -> Outcome:
    """Fit each method with each seed.

    In the results a method has `kl`, the divergence `KL(true || learned)` averaged over test inputs
    (mean over seeds, half the width of its 95% interval, values), and `shown`, the Gaussians of the
    first seed at the inputs that are drawn.
    """
    divergences: dict[str, list[float]] = {method: [] for method in METHODS}
    drawn: dict[str, dict[str, Any]] = {}
    for seed in range(config.seed, config.seed + config.seeds):
        data = make_data(config, seed)
        test_x = draw_inputs(config.num_test, derive_seed(seed, "test inputs"))
        for method in METHODS:
            predictor = fit(method, data, config, config.temperature, seed)
            divergences[method].append(judge(predictor, test_x).kl)
            if seed == config.seed:
                drawn[method] = _gaussians(predictor)
            advance()
    methods = {}
    for method, values in divergences.items():
        mean, margin = mean_and_margin(values)
        kl = {"mean": mean, "margin": margin, "seeds": values}
        methods[method] = {"kl": kl, "shown": drawn[method]}
    results = {
        "figure": "fig2",
        "temperature": config.temperature,
        "shown_inputs": SHOWN_INPUTS.tolist(),
        "methods": methods,
    }
    return Outcome(results, _report(config, results), {"fig2": densities(results, config.seed)})


def _gaussians(predictor: Predictor) -> dict[str, Any]:
    outputs = predictor(SHOWN_INPUTS)
    std = (0.5 * HEAD.log_var(outputs)).exp()
    return {"mean": HEAD.mean(outputs).tolist(), "std": std.tolist()}


def _report(config: Fig2Config, results: dict[str, Any]) -> str:
    rows = []
    for method, label in METHODS.items():
        kl = results["methods"][method]["kl"]
        rows.append([label, shown(kl["mean"], kl["margin"], 4)])
    return f"""# Figure 2: learned densities at temperature {config.temperature:g}

{markdown_table(["method", "KL(true, learned), nats"], rows)}

{seeds_text(config.seed, config.seeds)} Averaged over {config.num_test} test inputs, exactly over
targets.
"""
