"""How fast do tabular agents learn to cross the slippery lake?

    python benchmarks/frozen_lake.py [--seeds N] [--agents NAME ...] [--figure FILE] [--json FILE]

trains the shipped configurations on FrozenLake-v1 and judges the greedy policy every 500 steps by
the exact tables: the success rate in 100 steps, FrozenLake's limit, against the best that any
policy has. After the last step, also without a limit (10,000 steps), and over episodes.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mbrl_bilevel import build
from mbrl_bilevel.callbacks import Callback
from mbrl_bilevel.config import find_config, load_data
from mbrl_bilevel.evaluation import evaluate_episodes, save_figure
from mbrl_bilevel.evaluation.plots import STYLE, WIDTH_INCHES
from mbrl_bilevel.runs import count_progress, derive_seed, write_json_atomic
from mbrl_bilevel.tabular import optimal_return, policy_return
from mbrl_envs.tasks import read_tables

AGENTS: dict[str, tuple[str, list[str]]] = {
    "Dyna-Q, bilevel": ("dyna_frozenlake", []),
    "PSRL": ("psrl_frozenlake", []),
    "Q-learning": ("q_learning_frozenlake", []),
    "Q-learning, falling rate": ("q_learning_frozenlake", ["agent.lr=0.5", "agent.lr_decay=0.5"]),
    "Dyna-Q, counts": ("dyna_frozenlake", ["objective=nll"]),
    "Dyna-Q, bilevel, beta I": ("dyna_frozenlake", ["objective.reward=scalar"]),
}
"""Configuration and overrides by what they are called in the table."""

EVERY, LIMIT, NO_LIMIT = 500, 100, 10_000
NUM_EPISODES = 200
SHARE = 0.95


class Judge(Callback):
    """Notes the success rate of the greedy policy now and then."""

    def __init__(self, mdp: Any) -> None:
        self.mdp = mdp
        self.curve: list[float] = []

    def on_step(self, agent: Any) -> bool:
        if agent.num_timesteps % EVERY == 0:
            self.curve.append(policy_return(self.mdp, greedy(agent), LIMIT))
        return True


def greedy(agent: Any) -> Any:
    """Return the agent's deterministic action in each state, `[S]`."""
    return agent.predict(np.arange(agent.num_states), deterministic=True)[0]


def train(name: str, seed: int) -> dict[str, Any]:
    """Train one agent and judge it."""
    config_name, overrides = AGENTS[name]
    data = load_data(find_config(config_name), [*overrides, f"seed={seed}"])
    config = build.train_config(data)
    env = build.build_env(config)
    mdp = read_tables(env)
    agent: Any = build.build_agent(config, env)
    judge = Judge(mdp)
    agent.learn(config.total_timesteps, judge)
    episodes = evaluate_episodes(
        agent,
        lambda render_mode: build.build_env(config, render_mode),
        NUM_EPISODES,
        derive_seed(seed, "evaluation"),
        max_parallel=50,
    )
    return {
        "agent": name,
        "seed": seed,
        "curve": judge.curve,
        "success": judge.curve[-1],
        "success_without_limit": policy_return(mdp, greedy(agent), NO_LIMIT),
        "success_in_episodes": float(np.mean([episode.total_reward for episode in episodes])),
        "steps_to_share": steps_to(judge.curve, SHARE * optimal_return(mdp, LIMIT)),
        "optimum": optimal_return(mdp, LIMIT),
        "optimum_without_limit": optimal_return(mdp, NO_LIMIT),
    }


def steps_to(curve: list[float], threshold: float) -> int | None:
    """Return the steps after which a curve stays above a threshold to its end; None: it does not.

    Args:
        curve: One value every 500 steps.
        threshold: Of them.
    """
    below = [i for i, value in enumerate(curve) if value < threshold]
    first = below[-1] + 1 if below else 0
    return None if first == len(curve) else EVERY * (first + 1)


def table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table, a row an agent."""
    lines = [
        "| agent | success, 100 steps | no limit | episodes | steps to stay above 95% |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(result["agent"] for result in results):
        rows = [result for result in results if result["agent"] == name]
        columns = [
            ", ".join(f"{row[key]:.3f}" for row in rows)
            for key in ("success", "success_without_limit", "success_in_episodes")
        ]
        steps = ", ".join(
            "-" if r["steps_to_share"] is None else f"{r['steps_to_share']:,}" for r in rows
        )
        lines.append(f"| {name} | {' | '.join(columns)} | {steps} |")
    best = results[0]
    lines.append(f"\noptimum {best['optimum']:.4f}, no limit {best['optimum_without_limit']:.4f}")
    return "\n".join(lines)


def learning_curves(results: list[dict[str, Any]]) -> Figure:
    """Draw the success rates: thin for each seed, bold for their mean."""
    colors = ["#0072B2", "#56B4E9", "#009E73", "#D55E00", "#5A5A5A", "#CC79A7"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for name, color in zip(AGENTS, colors, strict=True):
            curves = np.array([r["curve"] for r in results if r["agent"] == name])
            if not len(curves):
                continue
            steps = EVERY * np.arange(1, curves.shape[1] + 1)
            axes.plot(steps, curves.T, color=color, linewidth=0.6, alpha=0.35)
            axes.plot(steps, curves.mean(axis=0), color=color, label=name)
        optimum = results[0]["optimum"]
        axes.axhline(optimum, color="black", linestyle=":", linewidth=1.0)
        axes.axhline(SHARE * optimum, color="black", linestyle="--", linewidth=0.6)
        axes.set(
            xlabel="environment steps",
            ylabel="exact success rate of the greedy policy",
            title="FrozenLake-v1, slippery; dotted: the optimum, dashed: 95% of it",
        )
        axes.legend(loc="lower right")
    return figure


def main() -> None:
    """Train, print the table, and leave figure and results where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS), metavar="NAME")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    jobs = [(name, seed) for name in arguments.agents for seed in range(arguments.seeds)]
    results: list[dict[str, Any]] = []
    with count_progress(len(jobs), "training", f"{len(jobs)} agents") as advance:
        for name, seed in jobs:
            results.append(train(name, seed))
            if arguments.json is not None:  # each time: it takes minutes
                write_json_atomic(arguments.json, {"results": results})
            advance()
    print(table(results))
    if arguments.figure is not None:
        save_figure(learning_curves(results), arguments.figure)


if __name__ == "__main__":
    main()
