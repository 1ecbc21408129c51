"""How fast are training and rollouts of an ensemble, beside the PyPI package `mbrl`?

    python benchmarks/model_speed.py [--without-mbrl] [--turns N] [--json FILE]

With half-cheetah's shapes (17 observations, 6 actions, learned reward) and 5 members of 4 hidden
layers of 200 (SiLU):

- `training 256`, `training 32`: updates on bootstrap batches of so many rows for each member,
  maximum likelihood, AdamW; drawing the batch included;
- `rollouts`: steps of 10,000 branched rollouts, each by a member drawn anew, results as arrays:
  `LearnedVecEnv` here, `ModelEnv` there. `LearnedVecEnv` also keeps an environment's books: ends,
  new starts and an info for each of them;
- `model steps`: the same steps without books or arrays, tensors in and out:
  `LearnedDynamics.step` here, `OneDTransitionRewardModel.sample` there.

Both sides take turns, on one thread each and in processes of their own, this package with float32
products and, where the processor has instructions for them, with bfloat16 ones. Times are the
processor's; ratios are those of medians, the first turn not counted. Beside the operations done a
second in the layers' products stands what the machine does in products of large matrices, by MKL
and by oneDNN. `mbrl` gets an environment of its own in the user's cache (see `mbrl_lib.py`; the
first time only, from the network).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from learned_vec_env_speed import ENV_ID, make_learned, make_model
from mbrl_lib import MbrlWorker, default_mbrl_folder, mbrl_python
from planning_speed import GEMM_SIZE, PRECISIONS, operations, product_time, take_turns

from mbrl_agents.imagination import LearnedDynamics
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import ModelConfig, NLLConfig, Precision
from mbrl_bilevel.data import ActionCodec, BootstrapBatches
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer, onednn
from mbrl_bilevel.dynamics.backward import make_backward

WORKER = Path(__file__).resolve().with_name("mbrl_lib_worker.py")
SHAPE = {
    "obs_size": 17,
    "action_size": 6,
    "num_layers": 4,
    "hidden_size": 200,
    "ensemble_size": 5,
    "num_transitions": 20_000,
    "num_envs": 10_000,
    "rollout_length": 5,
}
NUM_UPDATES = {256: 10, 32: 40}
"""Updates of a turn, by batch size."""
BY_ENVS = ("rollouts", "model steps")
"""Tasks that count the steps of all environments."""
BACKWARD_SHARE = 3
"""An update's products beside those of a prediction; the first layer's inputs need no gradient."""

Shape = dict[str, int]
Run = Callable[[], float]


def training(shape: Shape, batch_size: int, precision: Precision) -> Run:
    """Return the updates of a turn; they return their processor time."""
    hidden_sizes = [shape["hidden_size"]] * shape["num_layers"]
    ensemble_size, target_size = shape["ensemble_size"], shape["obs_size"] + 1
    config = ModelConfig(ensemble_size=ensemble_size, hidden_sizes=hidden_sizes)
    generator = torch.Generator().manual_seed(0)
    model = DynamicsModel(
        shape["obs_size"],
        ActionCodec(gym.spaces.Box(-1.0, 1.0, (shape["action_size"],))),
        config,
        make_objective(NLLConfig(), ensemble_size, target_size),
        learns_reward=True,
        learns_termination=False,
        generator=generator,
    )
    trainer = ModelTrainer(model, config, seed=0)
    backward = make_backward(model.network, onednn.large_dtype(precision))
    rows, input_size = shape["num_transitions"], shape["obs_size"] + shape["action_size"]
    x = torch.randn(rows, input_size, generator=generator)
    y = torch.randn(rows, target_size, generator=generator)
    batches = iter(BootstrapBatches(rows, ensemble_size, batch_size, 0, generator))

    def run() -> float:
        start = time.process_time()
        for _ in range(NUM_UPDATES[batch_size]):
            trainer.update(backward, x, y, next(batches))
        return time.process_time() - start

    return run


def rollouts(shape: Shape, precision: Precision) -> Run:
    """Return the steps of a turn; they return their processor time."""
    env = gym.make(ENV_ID)
    hidden_sizes = [shape["hidden_size"]] * shape["num_layers"]
    model = make_model(env, shape["ensemble_size"], hidden_sizes)
    vec_env = make_learned(env, model, shape["num_envs"], precision=precision)
    size = (shape["num_envs"], shape["action_size"])
    actions = np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)

    vec_env.reset()  # once: the last step of a rollout begins the next one

    def run() -> float:
        start = time.process_time()
        for _ in range(shape["rollout_length"]):
            vec_env.step(actions)
        return time.process_time() - start

    return run


def model_steps(shape: Shape, precision: Precision) -> Run:
    """Return the bare steps of a turn; they return their processor time."""
    env = gym.make(ENV_ID)
    hidden_sizes = [shape["hidden_size"]] * shape["num_layers"]
    model = make_model(env, shape["ensemble_size"], hidden_sizes)
    dynamics = LearnedDynamics(model, None, None, precision=precision)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape["num_envs"], shape["obs_size"], generator=generator)
    actions = 2 * torch.rand(shape["num_envs"], shape["action_size"], generator=generator) - 1

    def run() -> float:
        begun = time.process_time()
        obs = start
        for _ in range(shape["rollout_length"]):
            obs = dynamics.step(obs, actions, generator).next_obs
        return time.process_time() - begun

    return run


def onednn_time() -> Run:
    """Return a run of the product of two large matrices by oneDNN."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE, generator=generator)
    packed = onednn.pack(right)

    def run() -> float:
        start = time.process_time()
        onednn.linear(left, packed, None)
        return time.process_time() - start

    return run


def counted(task: str, shape: Shape) -> tuple[int, float]:
    """Return how many updates or steps a turn of a task has, and the operations of each."""
    if task in BY_ENVS:
        return shape["num_envs"] * shape["rollout_length"], operations(shape)
    batch_size = int(task.removeprefix("training "))
    inputs = 2 * shape["hidden_size"] * (shape["obs_size"] + shape["action_size"])
    a_row = BACKWARD_SHARE * operations(shape) - inputs
    return NUM_UPDATES[batch_size], batch_size * shape["ensemble_size"] * a_row


def summarise(times: dict[str, list[float]], shape: Shape) -> dict[str, dict[str, float]]:
    """Return rates of each task on each side and, where `mbrl` ran, ratios to it.

    Args:
        times: Seconds of the turns by `task, side`, and of products by `product`, `side`.
        shape: See `SHAPE`.
    """
    medians = {name: statistics.median(values) for name, values in times.items()}
    peak = 2 * GEMM_SIZE**3 / medians["product, MKL float32"]
    summary: dict[str, dict[str, float]] = {}
    for name, median in medians.items():
        task, side = name.split(", ")
        if task == "product":
            summary[name] = {"gflops": 2 * GEMM_SIZE**3 / median / 1e9}
            continue
        count, operations_each = counted(task, shape)
        speed = count * operations_each / median
        summary[name] = {
            "cpu_time_s": median,
            "cpu_time_min_s": min(times[name]),
            "cpu_time_max_s": max(times[name]),
            "per_s": count / median,
            "gflops": speed / 1e9,
            "share_of_float32_peak": speed / peak,
        }
        baseline = medians.get(f"{task}, mbrl")
        if baseline is not None and side != "mbrl":
            summary[name]["speedup"] = baseline / median
    return summary


def measure(args: argparse.Namespace, shape: Shape) -> dict[str, list[float]]:
    """Return processor times of all that takes part."""
    runs: dict[str, Run] = {}
    with ExitStack() as stack:

        def theirs(task: str, **more: int) -> Run:
            python = mbrl_python(args.environment)
            worker = stack.enter_context(MbrlWorker(python, WORKER, (task,)))
            worker.ask(shape | more)
            return lambda: float(worker.ask({})["cpu_time_s"])

        for batch_size, num_updates in NUM_UPDATES.items():
            name = f"training {batch_size}"
            if not args.without_mbrl:
                more = {"batch_size": batch_size, "num_updates": num_updates}
                runs[f"{name}, mbrl"] = theirs("training", **more)
            for precision in PRECISIONS:
                runs[f"{name}, {precision}"] = training(shape, batch_size, precision)
        for name, ours in zip(BY_ENVS, (rollouts, model_steps), strict=True):
            if not args.without_mbrl:
                runs[f"{name}, mbrl"] = theirs(name)
            for precision in PRECISIONS:
                runs[f"{name}, {precision}"] = ours(shape, precision)
        for precision in PRECISIONS:
            runs[f"product, MKL {precision}"] = product_time(getattr(torch, precision))
        if onednn.has_fused_linear(torch.float32):
            runs["product, oneDNN float32"] = onednn_time()
        return take_turns(runs, args.turns)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--without-mbrl", action="store_true", help="this package alone")
    parser.add_argument("--environment", type=Path, default=default_mbrl_folder(), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--num-envs", type=int, default=SHAPE["num_envs"])
    parser.add_argument("--hidden-size", type=int, default=SHAPE["hidden_size"])
    return parser.parse_args(arguments)


def main() -> None:
    """Print a line for each task and side."""
    args = parse()
    torch.set_num_threads(1)
    shape = SHAPE | {"num_envs": args.num_envs, "hidden_size": args.hidden_size}
    times = measure(args, shape)
    summary = summarise(times, shape)
    for name, row in summary.items():
        if "per_s" not in row:
            print(f"{name:<24} {row['gflops']:6.1f} GFLOP/s")
            continue
        speedup = f", {row['speedup']:.2f} times mbrl" if "speedup" in row else ""
        print(
            f"{name:<24} {row['gflops']:6.1f} GFLOP/s, {row['share_of_float32_peak']:.0%} of the "
            f"float32 product; {row['per_s']:,.1f} a second{speedup}"
        )
    if args.json:
        content = {"shape": shape, "summary": summary, "times": times}
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
