"""What does an algorithm without a model reach with the same number of environment steps?

    python benchmarks/model_free.py ENV_ID STEPS [--algorithm SAC] [--seeds N] [--rows FILE]

trains an algorithm of Stable-Baselines3 with its own defaults, and evaluates it on the starts that
`mbrl-bilevel train --seed S` evaluates its agents on. FILE gets a row for each seed as it ends, as
`mbrl-bilevel compare` reads them by `beside`; rows of other tasks or algorithms in it are kept.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
from stable_baselines3.common.monitor import Monitor

from mbrl_bilevel.environments import make_env
from mbrl_bilevel.evaluation import evaluate_episodes
from mbrl_bilevel.experiments.compare.row_file import read_rows, write_rows
from mbrl_bilevel.experiments.compare.statistics import interquartile_mean
from mbrl_bilevel.runs import count_progress, derive_seed

ALGORITHMS = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")


def train(
    algorithm: str, env_id: str, num_steps: int, seed: int, num_episodes: int
) -> dict[str, Any]:
    """Train one agent; return its part of a row."""
    env = Monitor(make_env(env_id))
    agent = getattr(stable_baselines3, algorithm)("MlpPolicy", env, seed=seed)
    agent.learn(num_steps)
    start = derive_seed(seed, "evaluation")
    episodes = evaluate_episodes(agent, lambda _: make_env(env_id), num_episodes, start)
    steps = itertools.accumulate(env.get_episode_lengths())
    return {
        "seed": seed,
        "status": "completed",
        "eval_return_mean": float(np.mean([episode.total_reward for episode in episodes])),
        "eval_episodes": num_episodes,
        "env_steps": agent.num_timesteps,
        "episodes": [list(point) for point in zip(steps, env.get_episode_rewards(), strict=True)],
        "evaluations": [],
    }


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Put a row into a file, in place of an earlier one of the same run."""
    key = ("task", "objective", "seed")
    rows = read_rows(path) if path.exists() else []
    rows = [each for each in rows if any(each[name] != row[name] for name in key)]
    write_rows(path, [*rows, row])


def main() -> None:
    """Train, print each seed's return, and leave them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env_id")
    parser.add_argument("num_steps", type=int)
    parser.add_argument("--algorithm", default="SAC", choices=ALGORITHMS)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--episodes", type=int, default=20, help="of an evaluation")
    parser.add_argument("--rows", type=Path, help="file for the rows")
    parser.add_argument("--task", help="what rows call the task; ENV_ID by default")
    args = parser.parse_args()
    place = {"task": args.task or args.env_id, "objective": args.algorithm}
    returns = []
    with count_progress(args.seeds, "training", f"{args.seeds} seeds of {args.algorithm}") as done:
        for seed in range(args.seed, args.seed + args.seeds):
            found = train(args.algorithm, args.env_id, args.num_steps, seed, args.episodes)
            returns.append(found["eval_return_mean"])
            if args.rows is not None:
                add_row(args.rows, place | found)
            done()
    text = ", ".join(f"{value:,.1f}" for value in returns)
    middle = float(interquartile_mean(np.array(returns)))
    print(f"{args.algorithm} on {args.env_id}, {args.num_steps:,} steps: {text}; IQM {middle:,.1f}")


if __name__ == "__main__":
    main()
