"""Is a finite horizon enough to stay up? Planning on the true simulator of InvertedPendulum-v5.

    python benchmarks/inverted_pendulum_oracle.py [--horizon H] [--seeds N]

plans with CEM (64 plans, 3 iterations, 8 elites) in MuJoCo itself, without any terminal value, and
prints how many of 1,000 steps each seed stays up, and how far the cart gets; its track ends at 1.
"""

import argparse
from typing import Any, cast

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv
from torch import Tensor

from mbrl_agents.planning import CEMConfig, make_planner
from mbrl_bilevel.data import ActionCodec
from mbrl_envs.tasks.inverted_pendulum import termination_fn


class TrueReturns:
    """Counts the steps that plans stay up, in a simulation of its own."""

    def __init__(self, env: gym.Env[Any, Any], codec: ActionCodec) -> None:
        simulator = cast(MujocoEnv, env.unwrapped)
        self._model, self._frame_skip = simulator.model, simulator.frame_skip
        self._data = mujoco.MjData(self._model)
        self._codec = codec

    def __call__(self, obs: Any, plans: Tensor) -> Tensor:
        """Return `[1, C]` for one observation `[4]` and plans `[1, C, H, 1]`."""
        actions = self._codec.decode(plans)[0].numpy()
        return torch.tensor([[self._steps_up(obs, sequence) for sequence in actions]])

    def _steps_up(self, obs: Any, actions: Any) -> float:
        data = self._data
        data.qpos[:], data.qvel[:] = obs[:2], obs[2:]
        for num_steps, action in enumerate(actions):
            data.ctrl[:] = action
            mujoco.mj_step(self._model, data, self._frame_skip)
            state = torch.as_tensor(np.concatenate([data.qpos, data.qvel]))
            if termination_fn(state, state, state):
                return float(num_steps)
        return float(len(actions))


def episode(horizon: int, seed: int) -> tuple[float, float]:
    """Return an episode's return and the farthest the cart got."""
    env = gym.make("InvertedPendulum-v5")
    codec = ActionCodec(env.action_space, torch.device("cpu"))
    config = CEMConfig(horizon=horizon, population_size=64, num_iterations=3, num_elites=8)
    planner = make_planner(config, codec, torch.device("cpu"))
    returns, generator = TrueReturns(env, codec), torch.Generator().manual_seed(seed)
    obs, _ = env.reset(seed=seed)
    state = planner.initial_state(batch_size=1)
    total = farthest = 0.0
    ended = False
    while not ended:
        plan, state = planner.plan(lambda plans, o=obs: returns(o, plans), state, generator)  # type: ignore[misc]
        obs, reward, terminated, truncated, _ = env.step(codec.to_env(plan[:, 0])[0])
        total += float(reward)
        farthest = max(farthest, abs(float(obs[0])))
        ended = terminated or truncated
    return total, farthest


def main() -> None:
    """Print one line a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--horizon", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(arguments.seeds):
        total, farthest = episode(arguments.horizon, seed)
        print(f"seed {seed}: return {total:.0f}, farthest {farthest:.2f}", flush=True)


if __name__ == "__main__":
    main()
