"""How close do tabular models come to the process that they are learned from?

    python benchmarks/tabular_models.py [--seeds N]

prints, for each environment and number of random steps, the distance in total variation of the
learned distribution of the next state to the true one, averaged over the states and actions seen
as often as they were, and over the seeds.
"""

import argparse

import gymnasium as gym
import numpy as np

import mbrl_envs  # noqa: F401 (registers)
from mbrl_bilevel.config.tabular import (
    CountsConfig,
    DirichletConfig,
    OneHotBilevelConfig,
    OneHotPGConfig,
)
from mbrl_bilevel.tabular import TabularMDP, TransitionCounts, learn_transitions
from mbrl_envs.tasks import read_tables

OBJECTIVES = {
    "nll": CountsConfig(),
    "dirichlet": DirichletConfig(),
    "pg, beta = 1": OneHotPGConfig(),
    "pg, beta*": OneHotPGConfig(beta=None),
    "bilevel, scalar": OneHotBilevelConfig(reward="scalar"),
    "bilevel": OneHotBilevelConfig(),
}
ENVIRONMENTS = ("FrozenLake-v1", "GridWorld-v0", "Garnet-v0", "Chain-v0")
STEPS = (500, 2000, 10_000)
EPISODE = 100


def wander(mdp: TabularMDP, num_steps: int, seed: int) -> TransitionCounts:
    """Return the transitions of random actions."""
    rng = np.random.default_rng(seed)
    seen = TransitionCounts(mdp.num_states, mdp.num_actions, 0.2, seed)
    ended, state = True, 0
    for step in range(num_steps):
        if ended or step % EPISODE == 0:
            state = int(rng.choice(mdp.num_states, p=mdp.initial_distribution))
        action = int(rng.integers(mdp.num_actions))
        following = int(rng.choice(mdp.num_states, p=mdp.transition_table[state, action]))
        where = (state, action, following)
        ended = bool(rng.random() < mdp.termination_table[where])
        seen.add(state, action, float(mdp.reward_table[where]), following, ended)
        state = following
    return seen


def distance(mdp: TabularMDP, seen: TransitionCounts, objective: object) -> float:
    """Return the mean distance in total variation, weighted by visits."""
    probs, _ = learn_transitions(seen, objective)  # type: ignore[arg-type]
    distances = 0.5 * np.abs(probs - mdp.transition_table).sum(axis=-1)
    return float((seen.visits * distances).sum() / len(seen))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    num_seeds = parser.parse_args().seeds
    print(f"| environment, steps | {' | '.join(OBJECTIVES)} |")
    print("|---" * (len(OBJECTIVES) + 1) + "|")
    for env_id in ENVIRONMENTS:
        mdp = read_tables(gym.make(env_id))
        for num_steps in STEPS:
            walks = [wander(mdp, num_steps, seed) for seed in range(num_seeds)]
            means = [
                np.mean([distance(mdp, seen, objective) for seen in walks])
                for objective in OBJECTIVES.values()
            ]
            print(
                f"| {env_id}, {num_steps:,} | {' | '.join(f'{m:.3f}' for m in means)} |", flush=True
            )


if __name__ == "__main__":
    main()
