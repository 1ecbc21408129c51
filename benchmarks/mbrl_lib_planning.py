"""Planning with the PyPI package `mbrl`, timed: run by `planning_speed.py` in an environment of its
own (see `mbrl_lib.py`).

The worker reads one JSON object a line: the shapes first, `{}` then for each action to plan. It
answers with the processor time of that action.
"""

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import mbrl.models
import mbrl.planning
import numpy as np
import omegaconf
import torch


def make_agent(shape: dict[str, int]) -> mbrl.planning.TrajectoryOptimizerAgent:
    """Return a CEM agent that plans in an untrained ensemble with learned rewards."""
    obs_size, action_size = shape["obs_size"], shape["action_size"]
    network = mbrl.models.GaussianMLP(
        obs_size + action_size,
        obs_size + 1,
        "cpu",
        num_layers=shape["num_layers"],
        ensemble_size=shape["ensemble_size"],
        hid_size=shape["hidden_size"],
        propagation_method="random_model",
        activation_fn_cfg={"_target_": "torch.nn.SiLU"},
    )
    model = mbrl.models.OneDTransitionRewardModel(network, normalize=True, learned_rewards=True)
    spaces = SimpleNamespace(observation_space=None, action_space=None)
    model_env = mbrl.models.ModelEnv(spaces, model, never, generator=torch.Generator())
    config = omegaconf.OmegaConf.create(
        {
            "_target_": "mbrl.planning.CEMOptimizer",
            "num_iterations": shape["num_iterations"],
            "elite_ratio": shape["num_elites"] / shape["population_size"],
            "population_size": shape["population_size"],
            "alpha": 0.1,
            "device": "cpu",
            "lower_bound": None,
            "upper_bound": None,
        }
    )
    bound = np.ones(action_size, dtype=np.float32)
    agent = mbrl.planning.TrajectoryOptimizerAgent(
        config, (-bound).tolist(), bound.tolist(), planning_horizon=shape["horizon"]
    )
    agent.set_trajectory_eval_fn(
        lambda obs, plans: model_env.evaluate_action_sequences(plans, obs, shape["num_particles"])
    )
    return agent


def never(_actions: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
    """Return that nothing terminates, `[N, 1]`."""
    return torch.zeros(len(next_obs), 1, dtype=torch.bool)


def answer(content: dict[str, Any]) -> None:
    """Write one line."""
    print(json.dumps(content), flush=True)


def main() -> None:
    """Plan an action whenever asked to."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = json.loads(sys.stdin.readline())
    agent = make_agent(shape)
    obs = 0.1 * np.random.default_rng(0).standard_normal(shape["obs_size"])
    answer({"ready": True})
    for _ in sys.stdin:
        start = time.process_time()
        agent.act(obs)
        answer({"cpu_time_s": time.process_time() - start})


if __name__ == "__main__":
    main()
