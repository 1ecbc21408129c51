"""What the PyPI package `mbrl` is timed on: run by benchmarks in its environment (`mbrl_lib.py`).

The worker's argument is a task: `planning`, `training`, `rollouts` or `model steps`. It reads one
JSON object a line: the shapes first, `{}` then for each measurement. It answers with the processor
time of one: an action planned, `num_updates` updates, or `rollout_length` steps of all rollouts.
"""

import json
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mbrl.models
import mbrl.planning
import mbrl.types
import mbrl.util.replay_buffer
import numpy as np
import omegaconf
import torch

Shape = dict[str, int]
Task = Callable[[], object]


def make_model(shape: Shape) -> mbrl.models.OneDTransitionRewardModel:
    """Return an untrained ensemble with learned rewards."""
    network = mbrl.models.GaussianMLP(
        shape["obs_size"] + shape["action_size"],
        shape["obs_size"] + 1,
        "cpu",
        num_layers=shape["num_layers"],
        ensemble_size=shape["ensemble_size"],
        hid_size=shape["hidden_size"],
        propagation_method="random_model",
        activation_fn_cfg={"_target_": "torch.nn.SiLU"},
    )
    return mbrl.models.OneDTransitionRewardModel(network, normalize=True, learned_rewards=True)


def make_model_env(shape: Shape) -> mbrl.models.ModelEnv:
    """Return the model as environments in which nothing terminates."""
    spaces = SimpleNamespace(observation_space=None, action_space=None)
    return mbrl.models.ModelEnv(spaces, make_model(shape), never, generator=torch.Generator())


def never(_actions: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
    """Return that nothing terminates, `[N, 1]`."""
    return torch.zeros(len(next_obs), 1, dtype=torch.bool)


def planning(shape: Shape) -> Task:
    """Return what plans an action by CEM."""
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
    bound = np.ones(shape["action_size"], dtype=np.float32)
    agent = mbrl.planning.TrajectoryOptimizerAgent(
        config, (-bound).tolist(), bound.tolist(), planning_horizon=shape["horizon"]
    )
    model_env = make_model_env(shape)
    agent.set_trajectory_eval_fn(
        lambda obs, plans: model_env.evaluate_action_sequences(plans, obs, shape["num_particles"])
    )
    obs = 0.1 * np.random.default_rng(0).standard_normal(shape["obs_size"])
    return lambda: agent.act(obs)


def training(shape: Shape) -> Task:
    """Return what makes updates on bootstrap batches, by Adam with weight decay."""
    rng = np.random.default_rng(0)
    rows = shape["num_transitions"]
    obs, change = rng.standard_normal((2, rows, shape["obs_size"]), np.float32)
    action = rng.uniform(-1, 1, (rows, shape["action_size"])).astype(np.float32)
    never_ends = np.zeros(rows, bool)
    transitions = mbrl.types.TransitionBatch(
        obs, action, obs + change, change[:, 0], never_ends, never_ends
    )
    model = make_model(shape)
    model.update_normalizer(transitions)
    optimizer = mbrl.models.ModelTrainer(model, optim_lr=1e-3, weight_decay=1e-5).optimizer
    batches = mbrl.util.replay_buffer.BootstrapIterator(
        transitions,
        shape["batch_size"],
        shape["ensemble_size"],
        shuffle_each_epoch=True,
        permute_indices=False,
        rng=rng,
    )

    def update() -> None:
        made = 0
        while made < shape["num_updates"]:
            for batch in batches:
                model.update(batch, optimizer)
                made += 1
                if made == shape["num_updates"]:
                    break

    return update


def rollouts(shape: Shape) -> Task:
    """Return what takes the steps of branched rollouts, observations and rewards as arrays."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((shape["num_envs"], shape["obs_size"]))
    actions = rng.uniform(-1, 1, (shape["num_envs"], shape["action_size"])).astype(np.float32)
    model_env = make_model_env(shape)

    def roll_out() -> None:
        state = model_env.reset(obs)
        for _ in range(shape["rollout_length"]):
            *_, state = model_env.step(actions, state, sample=True)

    return roll_out


def model_steps(shape: Shape) -> Task:
    """Return what takes the same steps by the model alone, tensors in and out."""
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(shape["num_envs"], shape["obs_size"], generator=generator)
    actions = 2 * torch.rand(shape["num_envs"], shape["action_size"], generator=generator) - 1
    model = make_model(shape)

    def roll_out() -> None:
        with torch.no_grad():
            state = model.reset(obs, rng=generator)
            for _ in range(shape["rollout_length"]):
                *_, state = model.sample(actions, state, deterministic=False, rng=generator)

    return roll_out


TASKS: dict[str, Callable[[Shape], Task]] = {
    "planning": planning,
    "training": training,
    "rollouts": rollouts,
    "model steps": model_steps,
}


def answer(content: dict[str, Any]) -> None:
    """Write one line."""
    print(json.dumps(content), flush=True)


def main() -> None:
    """Do the task whenever asked to."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = TASKS[sys.argv[1]](json.loads(sys.stdin.readline()))
    answer({"ready": True})
    for _ in sys.stdin:
        start = time.process_time()
        task()
        answer({"cpu_time_s": time.process_time() - start})


if __name__ == "__main__":
    main()
