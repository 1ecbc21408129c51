"""How fast does CEM plan in an ensemble, beside the PyPI package `mbrl`?

    python benchmarks/planning_speed.py [--without-mbrl] [--turns N] [--json FILE]

plans actions with half-cheetah's shapes: 17 observations and the reward learned by 5 members of 4
hidden layers of 200 (SiLU), 6 actions; CEM with 5 iterations of 400 plans, 30 steps, 20 particles,
each step by another member (`ts1`; `random_model` there). Both sides plan on one thread in turns,
in processes of their own, this package with float32 products and, where the processor has
instructions for them, with bfloat16 ones. Times are the processor's; ratios are those of medians,
the first turn not counted. `mbrl` gets an environment of its own in the user's cache (see
`mbrl_lib.py`; the first time only, from the network).

A transition of the network takes 264,000 multiplications and additions. Beside how many of them are
done a second stands what the machine does in the product of two large matrices.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from gymnasium import spaces
from mbrl_lib import MbrlWorker, default_mbrl_folder, mbrl_python

from mbrl_agents.planning import CEMConfig, TrajectorySampler, make_planner
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import ModelConfig, NLLConfig, Precision
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.dynamics.onednn import multiplies_bfloat16

WORKER = Path(__file__).resolve().with_name("mbrl_lib_worker.py")
SHAPE = {
    "obs_size": 17,
    "action_size": 6,
    "num_layers": 4,
    "hidden_size": 200,
    "ensemble_size": 5,
    "population_size": 400,
    "num_elites": 40,
    "horizon": 30,
    "num_particles": 20,
    "num_iterations": 5,
}
GEMM_SIZE = 2048
# Without instructions for bfloat16 its products are emulated: there is no speed to measure.
PRECISIONS: tuple[Precision, ...] = (
    ("float32", "bfloat16") if multiplies_bfloat16() else ("float32",)
)

Shape = dict[str, int]
Times = dict[str, list[float]]


class Ours:
    """CEM in an untrained ensemble of this package."""

    def __init__(self, shape: Shape, precision: Precision) -> None:
        codec = ActionCodec(spaces.Box(-1.0, 1.0, (shape["action_size"],)))
        obs_size, ensemble_size = shape["obs_size"], shape["ensemble_size"]
        hidden_sizes = [shape["hidden_size"]] * shape["num_layers"]
        self.generator = torch.Generator().manual_seed(0)
        model = DynamicsModel(
            obs_size,
            codec,
            ModelConfig(ensemble_size=ensemble_size, hidden_sizes=hidden_sizes),
            make_objective(NLLConfig(), ensemble_size, obs_size + 1),
            learns_reward=True,
            learns_termination=False,
            generator=self.generator,
        )
        self.sampler = TrajectorySampler(
            model, None, None, shape["num_particles"], "ts1", precision=precision
        )
        config = CEMConfig(
            horizon=shape["horizon"],
            population_size=shape["population_size"],
            num_iterations=shape["num_iterations"],
            num_elites=shape["num_elites"],
        )
        self.planner = make_planner(config, codec, torch.device("cpu"))
        self.state = self.planner.initial_state(1)
        self.obs = 0.1 * torch.randn(1, obs_size, generator=self.generator)

    def act(self) -> float:
        """Plan an action; return the processor time."""
        start = time.process_time()
        sampler = self.sampler.held()  # as the agent does
        _, self.state = self.planner.plan(
            lambda plans: sampler.returns(self.obs, plans, self.generator),
            self.state,
            self.generator,
        )
        return time.process_time() - start


def take_turns(runs: dict[str, Callable[[], float]], turns: int) -> Times:
    """Return the time of each run in each turn; a first turn, for warming up, is left out."""
    times: Times = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            seconds = run()
            if turn > 0:
                times[name].append(seconds)
        print(f"turn {turn} of {turns} done", file=sys.stderr, flush=True)
    return times


def product_time(dtype: torch.dtype) -> Callable[[], float]:
    """Return a run of the product of two large matrices."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE, generator=generator).to(dtype)

    def run() -> float:
        start = time.process_time()
        torch.mm(left, right)
        return time.process_time() - start

    return run


def num_transitions(shape: Shape) -> int:
    """Return the model's transitions in the planning of one action."""
    plans = shape["population_size"] * shape["num_iterations"]
    return plans * shape["horizon"] * shape["num_particles"]


def operations(shape: Shape) -> int:
    """Return the multiplications and additions of one transition."""
    hidden, inputs = shape["hidden_size"], shape["obs_size"] + shape["action_size"]
    outputs = 2 * (shape["obs_size"] + 1)
    inner = (shape["num_layers"] - 1) * hidden
    return 2 * hidden * (inputs + inner + outputs)


def summarise(times: Times, shape: Shape) -> dict[str, dict[str, float]]:
    """Return rates of each planner and, where `mbrl` ran, the ratio to it."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    peak = 2 * GEMM_SIZE**3 / medians["product float32"]
    summary: dict[str, dict[str, float]] = {}
    for name in ("mbrl", *PRECISIONS):
        if name not in medians:
            continue
        rate = num_transitions(shape) / medians[name]
        summary[name] = {
            "cpu_time_s": medians[name],
            "cpu_time_min_s": min(times[name]),
            "cpu_time_max_s": max(times[name]),
            "actions_per_s": 1 / medians[name],
            "transitions_per_s": rate,
            "gflops": rate * operations(shape) / 1e9,
            "share_of_float32_peak": rate * operations(shape) / peak,
        }
        if "mbrl" in medians:
            summary[name]["speedup"] = medians["mbrl"] / medians[name]
    for dtype in PRECISIONS:
        name = f"product {dtype}"
        summary[name] = {"gflops": 2 * GEMM_SIZE**3 / medians[name] / 1e9}
    return summary


def measure(args: argparse.Namespace, shape: Shape) -> Times:
    """Return processor times of all that takes part."""
    runs: dict[str, Callable[[], float]] = {}
    with ExitStack() as stack:
        if not args.without_mbrl:
            worker = stack.enter_context(
                MbrlWorker(mbrl_python(args.environment), WORKER, ("planning",))
            )
            worker.ask(shape)
            runs["mbrl"] = lambda: float(worker.ask({})["cpu_time_s"])
        for precision in PRECISIONS:
            runs[precision] = Ours(shape, precision).act
            runs[f"product {precision}"] = product_time(getattr(torch, precision))
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
    for name, value in SHAPE.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    return parser.parse_args(arguments)


def main() -> None:
    """Print a line for each planner."""
    args = parse()
    torch.set_num_threads(1)
    shape: Shape = {name: getattr(args, name) for name in SHAPE}
    times = measure(args, shape)
    summary = summarise(times, shape)
    for name, row in summary.items():
        if "cpu_time_s" not in row:
            print(f"{name:<17} {row['gflops']:6.1f} GFLOP/s")
            continue
        speedup = f", {row['speedup']:.2f} times mbrl" if "speedup" in row else ""
        print(
            f"{name:<17} {row['gflops']:6.1f} GFLOP/s, {row['share_of_float32_peak']:.0%} of the "
            f"float32 product; {row['cpu_time_s']:.2f} s an action "
            f"({row['cpu_time_min_s']:.2f} to {row['cpu_time_max_s']:.2f}), "
            f"{row['transitions_per_s']:,.0f} transitions/s{speedup}"
        )
    if args.json:
        content = {"shape": shape, "summary": summary, "times": times}
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
