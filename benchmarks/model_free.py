"""What does an algorithm without a model reach with the same number of environment steps?

    python benchmarks/model_free.py ENV_ID STEPS [--algorithm SAC] [--seeds N] [--json FILE]

trains an algorithm of Stable-Baselines3 with its own defaults, and evaluates it on the starts that
`mbrl-bilevel train --seed S` evaluates its agents on.
"""

import argparse
from pathlib import Path

import numpy as np
import stable_baselines3

from mbrl_bilevel.environments import make_env
from mbrl_bilevel.evaluation import evaluate_episodes
from mbrl_bilevel.experiments.compare.statistics import interquartile_mean
from mbrl_bilevel.runs import count_progress, derive_seed, write_json_atomic

ALGORITHMS = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")


def train(algorithm: str, env_id: str, num_steps: int, seed: int, num_episodes: int) -> float:
    """Train one agent; return its mean evaluation return."""
    agent = getattr(stable_baselines3, algorithm)("MlpPolicy", make_env(env_id), seed=seed)
    agent.learn(num_steps)
    start = derive_seed(seed, "evaluation")
    episodes = evaluate_episodes(agent, lambda _: make_env(env_id), num_episodes, start)
    return float(np.mean([episode.total_reward for episode in episodes]))


def main() -> None:
    """Train, print each seed's return, and leave them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env_id")
    parser.add_argument("num_steps", type=int)
    parser.add_argument("--algorithm", default="SAC", choices=ALGORITHMS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    returns = []
    with count_progress(args.seeds, "training", f"{args.seeds} seeds of {args.algorithm}") as done:
        for seed in range(args.seeds):
            returns.append(train(args.algorithm, args.env_id, args.num_steps, seed, args.episodes))
            done()
    text = ", ".join(f"{value:,.1f}" for value in returns)
    middle = float(interquartile_mean(np.array(returns)))
    print(f"{args.algorithm} on {args.env_id}, {args.num_steps:,} steps: {text}; IQM {middle:,.1f}")
    if args.json is not None:
        result = {"env": args.env_id, "algorithm": args.algorithm, "steps": args.num_steps}
        write_json_atomic(args.json, {**result, "returns": returns, "iqm": middle})


if __name__ == "__main__":
    main()
