"""Figure 3: the reward's path, and where it ends, under each hypergradient solver."""

from typing import Any

import torch

from mbrl_bilevel.bilevel import Solver, make_solver
from mbrl_bilevel.config.reproduce import Fig3Config, SolverName
from mbrl_bilevel.experiments.reproduce.fig3_plot import reward_paths
from mbrl_bilevel.experiments.reproduce.outcome import (
    Advance,
    Outcome,
    markdown_table,
    seeds_text,
)
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown
from mbrl_bilevel.experiments.reproduce.synthetic import (
    TARGET_SIZE,
    SyntheticData,
    make_data,
    make_model,
    true_u,
)
from mbrl_bilevel.experiments.reproduce.training import HEAD, LearnedReward, learn_reward


def num_fits(config: Fig3Config) -> int:
    """Return how often `compute` calls `advance`."""
    return config.seeds * len(config.solvers)


def compute(config: Fig3Config, advance: Advance) -> Outcome:
    """Learn u with each solver and seed.

    In the results `solvers` are those of the first seed, `runs` those of all.
    """
    _load_lazy_imports(config)
    runs: list[dict[str, Any]] = []
    for seed in range(config.seed, config.seed + config.seeds):
        solvers = {}
        for name in config.solvers:
            solvers[name] = _run(config, name, seed)
            advance()
        runs.append({"seed": seed, "solvers": solvers})
    results: dict[str, Any] = {
        "figure": "fig3",
        "u_true": true_u(config.temperature),
        "solvers": runs[0]["solvers"],
        "runs": runs,
        "summary": {name: _summary([run["solvers"][name] for run in runs]) for name in solvers},
    }
    return Outcome(
        results,
        _report(config, results),
        {"fig3": reward_paths(results["solvers"], results["u_true"], config.seed)},
    )


def _run(config: Fig3Config, name: SolverName, seed: int) -> dict[str, Any]:
    data = make_data(config, seed)
    model = make_model(config, data, seed)
    learned = learn_reward(
        model, data, config, config.temperature, _solver(config, name), config.all_parameters
    )
    u_star_residual = _best_u(learned, data, config.temperature)
    steps = learned.history
    return {
        "u_hat": learned.u,
        "u_star_residual": u_star_residual,
        "u_true": true_u(config.temperature),
        "wall_time_s": learned.wall_time_s,
        "outer_steps": len(steps),
        "relative_error": learned.u / u_star_residual - 1,
        "stationarity": learned.stationarity,
        "solver_residual": steps[-1].residual,
        "num_hvps": sum(step.num_hvps for step in steps),
        "negative_curvature_steps": sum(step.negative_curvature for step in steps),
        "history": {
            "u": [step.u for step in steps],
            "outer_loss": [step.outer_loss for step in steps],
            "hypergradient": [step.hypergradient for step in steps],
        },
    }


def _solver(config: Fig3Config, name: SolverName) -> Solver:
    if name == "functional":
        # The stationarity in all parameters is measured at the end, for every solver alike.
        return make_solver(name, compute_stationarity=False)
    return make_solver(name, **config.solver_settings(name))


@torch.no_grad()
def _best_u(learned: LearnedReward, data: SyntheticData, temperature: float) -> float:
    """Return `temperature n / (2 tr S)`, S the second moment of the final held-out residuals."""
    x, y = data.held_out
    trace = (y - HEAD.mean(learned.model(x))).square().mean(dim=0).sum().item()
    return temperature * TARGET_SIZE / (2 * trace)


def _load_lazy_imports(config: Fig3Config) -> None:
    """Solve once in one step: PyTorch imports parts of itself with the first optimiser.

    That would be counted as time of the first solver.
    """
    tiny = config.model_copy(update={"num_outer_steps": 1, "inner_steps": 1})
    data = make_data(tiny, tiny.seed)
    for name in config.solvers:
        learn_reward(make_model(tiny, data, 0), data, tiny, tiny.temperature, _solver(tiny, name))


def _summary(results: list[dict[str, Any]]) -> dict[str, float]:
    u_mean, u_margin = mean_and_margin([result["u_hat"] for result in results])
    time_mean, time_margin = mean_and_margin([result["wall_time_s"] for result in results])
    return {
        "u_hat_mean": u_mean,
        "u_hat_margin": u_margin,
        "u_star_residual_mean": mean_and_margin([r["u_star_residual"] for r in results])[0],
        "relative_error_max": max(abs(result["relative_error"]) for result in results),
        "wall_time_s_mean": time_mean,
        "wall_time_s_margin": time_margin,
        "negative_curvature_steps": sum(result["negative_curvature_steps"] for result in results),
    }


def _report(config: Fig3Config, results: dict[str, Any]) -> str:
    header = ["solver", "u", "u* of residuals", "error", "Hessian products", "neg. curvature"]
    rows = []
    for name, summary in results["summary"].items():
        rows.append(
            [
                name,
                shown(summary["u_hat_mean"], summary["u_hat_margin"], 4),
                f"{summary['u_star_residual_mean']:.4f}",
                f"{summary['relative_error_max']:.2%}",
                str(results["solvers"][name]["num_hvps"]),
                f"{summary['negative_curvature_steps']} steps",
                f"{shown(summary['wall_time_s_mean'], summary['wall_time_s_margin'], 2)} s",
            ]
        )
    table = markdown_table([*header, "time"], rows)
    return f"""# Figure 3: the learned reward

{table}

{seeds_text(config.seed, config.seeds)} True u = {results["u_true"]:.4f}; u* is the optimum for the
held-out residuals of the final model, `temperature n / (2 tr S)`; the error is the largest of
`|u / u* - 1|`.
"""
