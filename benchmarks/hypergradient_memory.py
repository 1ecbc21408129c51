"""Does the memory of a hypergradient grow with the number of inner steps that led to it?

    python benchmarks/hypergradient_memory.py [--json FILE]

A Gaussian network is trained for 10 or for 1,000 inner steps on the analytic policy gradient, then
the hypergradient of the held-out likelihood is taken. Each measurement has a process of its own,
and is what the peak of resident memory (`getrusage`) rises above the level before the inner steps:
after the imports, the data, and one small problem solved in the same way, which loads what torch
loads lazily. Blocks from 64 KiB on go back to the system when they are freed (`MALLOC_...` below):
with glibc's own choice the peak depends on how the heap happened to be cut up, by 10 MiB and more.
`unrolled` differentiates through the steps themselves, for contrast.
"""

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mbrl_bilevel.bilevel import (
    FunctionalProblem,
    HypergradientResult,
    PolicyGradientLoss,
    hypergradient,
    make_solver,
)
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.rewards import MahalanobisReward

SOLVERS = ("cg", "functional", "unrolled")
NUM_STEPS = (10, 1_000)
NUM_ROWS, DIMENSIONS, HIDDEN_SIZE = 2_000, 2, 128
UNROLLED_ROWS = 100
INNER_LR = 1e-3
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def make_problem(num_rows: int) -> tuple[FunctionalProblem, nn.Module]:
    """Return the synthetic problem of the paper's section 5.2, with this many rows, and a model."""
    torch.manual_seed(0)
    head = DiagonalGaussianHead(DIMENSIONS)
    model = nn.Sequential(
        nn.Linear(DIMENSIONS, HIDDEN_SIZE),
        nn.SiLU(),
        nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE),
        nn.SiLU(),
        nn.Linear(HIDDEN_SIZE, head.num_outputs),
    )
    inner_loss = PolicyGradientLoss(
        head, MahalanobisReward(DIMENSIONS, "scalar"), Analytic(), temperature=1.0
    )

    def model_fn(params: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(model, params, (x,))
        return outputs

    def outer_loss(z: Tensor, _outer_params: dict[str, Tensor], _x: Tensor, y: Tensor) -> Tensor:
        return -head.log_prob(z, y)

    def draw() -> tuple[Tensor, Tensor]:
        x = 10 * torch.rand(num_rows, DIMENSIONS) - 5
        return x, x + 6 + 1.25 * torch.randn_like(x)

    problem = FunctionalProblem(
        model_fn, inner_loss, outer_loss, inner_loss.conditional, draw(), draw()
    )
    return problem, model


def differentiate(
    problem: FunctionalProblem, model: nn.Module, name: str, num_steps: int
) -> HypergradientResult:
    """Take the inner steps, then the hypergradient."""
    outer_params = {"log_u": torch.zeros(1)}
    params = {key: value.detach().clone() for key, value in model.named_parameters()}
    if name == "unrolled":  # it takes the steps itself
        solver = make_solver(name, num_steps=num_steps, lr=INNER_LR, momentum=0.0)
        return hypergradient(problem, params, outer_params, solver)
    params = descend(problem, params, outer_params, num_steps)
    # The ridge makes up for the negative curvature far from the solution, where conjugate gradient
    # would stop early: after 10 inner steps as after 1,000 it takes the same number of its own.
    solver = make_solver(name, ridge=1e3, max_steps=5) if name == "cg" else make_solver(name)
    return hypergradient(problem, params, outer_params, solver)


def descend(
    problem: FunctionalProblem,
    params: dict[str, Tensor],
    outer_params: dict[str, Tensor],
    num_steps: int,
) -> dict[str, Tensor]:
    """Return the parameters after Adam's steps on the inner objective."""
    leaves = {key: value.requires_grad_() for key, value in params.items()}
    adam = torch.optim.Adam(leaves.values(), lr=INNER_LR)
    for _ in range(num_steps):
        adam.zero_grad()
        problem.evaluate_inner(leaves, outer_params).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return {key: value.detach() for key, value in leaves.items()}


def peak_memory() -> float:
    """Return the largest resident size of this process so far, MiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2**20 if sys.platform == "darwin" else size / 2**10


def measure_here(name: str, num_steps: int, num_rows: int) -> tuple[float, int]:
    """Return what the peak rises by in this process, MiB, and the Hessian-vector products."""
    torch.set_num_threads(1)
    small, small_model = make_problem(100)
    differentiate(small, small_model, name, num_steps=2)
    problem, model = make_problem(num_rows)
    gc.collect()
    before = peak_memory()
    result = differentiate(problem, model, name, num_steps)
    return peak_memory() - before, result.num_hvps


def measure(name: str, num_steps: int, num_rows: int) -> tuple[float, int]:
    """Return what `measure_here` returns, in a new process."""
    command = [sys.executable, __file__, "--measure", name, str(num_steps), str(num_rows)]
    environment = os.environ | ALLOCATOR
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    peak, num_hvps = result.stdout.split()
    return float(peak), int(num_hvps)


def main() -> None:
    """Print a line for each solver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--num-rows", type=int, default=NUM_ROWS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, num_steps, num_rows = args.measure
        print(*measure_here(name, int(num_steps), int(num_rows)))
        return
    report = {}
    few, many = NUM_STEPS
    for name in SOLVERS:
        # Unrolling a thousand steps on all rows would take tens of gigabytes.
        rows = min(UNROLLED_ROWS, args.num_rows) if name == "unrolled" else args.num_rows
        found = {
            steps: [measure(name, steps, rows) for _ in range(args.repetitions)]
            for steps in NUM_STEPS
        }
        peaks = {steps: [peak for peak, _ in results] for steps, results in found.items()}
        num_hvps = {steps: results[0][1] for steps, results in found.items()}
        medians = {steps: statistics.median(values) for steps, values in peaks.items()}
        difference = 100 * (medians[many] / medians[few] - 1)
        report[name] = {
            "num_rows": rows,
            "num_hvps": num_hvps,
            "peaks_mib": peaks,
            "difference_percent": difference,
        }
        spread = {steps: f"{min(v):.1f} to {max(v):.1f}" for steps, v in peaks.items()}
        print(
            f"{name:<11} {medians[few]:8.1f} MiB after {few} steps ({spread[few]}), "
            f"{medians[many]:8.1f} after {many:,} ({spread[many]}): {difference:+.1f}%; "
            f"products {num_hvps[few]} and {num_hvps[many]}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
