"""How fast does a policy's world move in the learned model, beside the simulator?

    python benchmarks/learned_vec_env_speed.py [--num-envs N] [--json FILE]

Environment steps a second, in turns of the same run:

- `simulator`: Gymnasium's HalfCheetah-v5, one environment;
- `simulator_vec_env`: eight of them in Stable-Baselines3's `DummyVecEnv`;
- `learned`: N of `LearnedVecEnv` with HalfCheetah's sizes (17 observations, 6 actions), five
  members of four layers of 200, learned reward, rollouts of five steps;
- `learned_penalised`: the same with an uncertainty penalty, which asks every member;
- `network`: only the forward pass that a step of `learned` is about.

Weights are random: they do not matter to the cost. Rates are medians over turns of the process's
CPU time on one thread, which other programs on the machine disturb less than they do the wall
clock.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from mbrl_agents.imagination import LearnedDynamics, LearnedVecEnv
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import ModelConfig, NLLConfig, Precision
from mbrl_bilevel.data import ActionCodec, observation_size
from mbrl_bilevel.dynamics import DynamicsModel

ENV_ID = "HalfCheetah-v5"
ROLLOUT_LENGTH = 5
NUM_MEMBERS = 5
Turn = Callable[[], int]
"""Takes some steps, and returns how many."""


def make_model(env: gym.Env[Any, Any], num_members: int, hidden_sizes: list[int]) -> DynamicsModel:
    """Return a model of `env` with random weights that learns the reward."""
    obs_size = observation_size(env.observation_space)
    target_size = DynamicsModel.target_size(obs_size, learns_reward=True)
    return DynamicsModel(
        obs_size,
        ActionCodec(env.action_space),
        ModelConfig(ensemble_size=num_members, hidden_sizes=hidden_sizes),
        make_objective(NLLConfig(), num_members, target_size),
        learns_reward=True,
        learns_termination=False,
        generator=torch.Generator().manual_seed(0),
    )


def make_learned(
    env: gym.Env[Any, Any],
    model: DynamicsModel,
    num_envs: int,
    penalty: float = 0.0,
    precision: Precision = "float32",
) -> LearnedVecEnv:
    """Return imagined environments that begin at random observations."""
    return LearnedVecEnv(
        LearnedDynamics(model, None, None, uncertainty_penalty=penalty, precision=precision),
        np.random.default_rng(0).standard_normal((1000, model.obs_size)),
        num_envs=num_envs,
        rollout_length=ROLLOUT_LENGTH,
        observation_space=env.observation_space,
        action_space=env.action_space,
    )


def simulator_turn(env: gym.Env[Any, Any], num_steps: int) -> Turn:
    """Return `num_steps` random steps of one environment."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(num_steps)]

    def run() -> int:
        env.reset(seed=0)
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return num_steps

    return run


def vec_env_turn(vec_env: VecEnv, num_steps: int) -> Turn:
    """Return `num_steps` random steps of each of several environments."""
    vec_env.action_space.seed(0)
    actions = np.stack([vec_env.action_space.sample() for _ in range(vec_env.num_envs)])
    vec_env.reset()

    def run() -> int:
        for _ in range(num_steps):
            vec_env.step(actions)
        return num_steps * vec_env.num_envs

    return run


def network_turn(model: DynamicsModel, num_rows: int, num_steps: int) -> Turn:
    """Return forward passes of as many rows as a step of `learned` has, at least."""
    with torch.no_grad():
        members = model.members(model.elite_indices)
    num_members = len(model.elite_indices)
    input_size = model.obs_size + model.codec.size
    rows = torch.randn(num_members, -(-num_rows // num_members), input_size)

    @torch.no_grad()
    def run() -> int:
        for _ in range(num_steps):
            members.predict(rows)
        return num_steps * num_rows

    return run


def measure(turns: dict[str, Turn], num_turns: int) -> dict[str, float]:
    """Return the median steps a second of each; the first turn does not count."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for index in range(num_turns + 1):
        for name, turn in turns.items():
            start = time.process_time()
            num_steps = turn()
            if index > 0:
                rates[name].append(num_steps / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=10_000, help="imagined environments")
    parser.add_argument("--turns", type=int, default=5, help="turns that count")
    parser.add_argument("--json", type=Path, help="write the results here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    env = gym.make(ENV_ID)
    model = make_model(env, NUM_MEMBERS, [200] * 4)
    rates = measure(
        {
            "simulator": simulator_turn(env, 2_000),
            "simulator_vec_env": vec_env_turn(DummyVecEnv([lambda: gym.make(ENV_ID)] * 8), 250),
            "learned": vec_env_turn(make_learned(env, model, args.num_envs), 10),
            "learned_penalised": vec_env_turn(make_learned(env, model, args.num_envs, 1.0), 5),
            "network": network_turn(model, args.num_envs, 10),
        },
        args.turns,
    )
    results = {
        "num_envs": args.num_envs,
        "steps_per_second": rates,
        "times_simulator": {name: rate / rates["simulator"] for name, rate in rates.items()},
        "share_of_network": rates["learned"] / rates["network"],
    }
    for name, rate in rates.items():
        print(f"{name:18} {rate:12,.0f} steps/s  {rate / rates['simulator']:6.1f} x simulator")
    print(f"the network is {results['share_of_network']:.0%} of a step of `learned`")
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
