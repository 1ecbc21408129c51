"""How fast and how exact is this package beside the published procedure, on the paper's figure 3?

    python benchmarks/fig3_speed.py [--without-torchopt] [--with-corrected] [--json FILE]

runs both on the synthetic problem of section 5.2, in turns and on one thread each: the published
procedure (see `published_procedure.py`) once in a turn, and `mbrl-bilevel reproduce fig3` with each
solver several times, every time with another seed. Wall times are those of the optimisation alone,
as each program reports them, without starting Python and importing. The ratio is that of medians.

That is the time to an answer: this package takes 120 inner steps, the published procedure 5,000.
`--equal-steps` adds this package with as many outer and inner steps as that, which compares the
cost of the steps alone. `--with-corrected` adds the published procedure with its faults
repaired: the exact inner objective, 20 steps of conjugate gradient, and one Adam throughout.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environments import ONE_THREAD
from published_procedure import (
    default_environment,
    environment_python,
    run_procedure,
)

SOLVERS = ("functional", "cg")
EQUAL_STEPS = ["num_outer_steps=100", "inner_steps=50"]
CORRECTED = ["--objective", "analytic", "--cg-steps", "20", "--keep-outer-adam"]

Runs = dict[str, list[dict[str, Any]]]


def reproduce(seed: int, overrides: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the result of each solver of this package."""
    # The command's run folder is made in the working directory.
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mbrl_bilevel", "reproduce", "fig3", f"seed={seed}"]
        command += overrides
        command += [f"solvers=[{','.join(SOLVERS)}]", "--json", "fig3.json"]
        environment = os.environ | ONE_THREAD
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
        content = json.loads((Path(folder) / "fig3.json").read_text(encoding="utf-8"))
    results: dict[str, dict[str, Any]] = content["solvers"]
    return results


def collect(args: argparse.Namespace) -> Runs:
    """Return the results of all runs, by what was run."""
    python = None if args.without_torchopt else environment_python(args.environment)
    runs: Runs = {}
    seed = 0
    for turn in range(args.turns):
        if python is not None:
            result = run_procedure(python, ["--seed", str(turn)])
            runs.setdefault("published", []).append(result)
        if python is not None and args.with_corrected:
            result = run_procedure(python, ["--seed", str(turn), *CORRECTED])
            runs.setdefault("corrected", []).append(result)
        for _ in range(args.repetitions):
            for solver, result in reproduce(seed).items():
                runs.setdefault(solver, []).append(result)
            seed += 1
        if args.equal_steps:
            for solver, result in reproduce(seed, EQUAL_STEPS).items():
                runs.setdefault(f"{solver}, equal steps", []).append(result)
        print(f"turn {turn + 1} of {args.turns} done", file=sys.stderr, flush=True)
    return runs


def summarise(runs: Runs) -> dict[str, dict[str, float]]:
    """Return time, error and, where the published procedure ran, ratio of each."""
    summary: dict[str, dict[str, float]] = {}
    for name, results in runs.items():
        times = [result["wall_time_s"] for result in results]
        errors = [abs(result["u_hat"] / result["u_star_residual"] - 1) for result in results]
        estimates = [result["u_hat"] for result in results]
        true_errors = [abs(result["u_hat"] / result["u_true"] - 1) for result in results]
        row = {
            "num_runs": len(results),
            "time_median_s": statistics.median(times),
            "time_min_s": min(times),
            "time_max_s": max(times),
            "u_hat_median": statistics.median(estimates),
            "u_hat_min": min(estimates),
            "u_hat_max": max(estimates),
            "error_median": statistics.median(errors),
            "error_max": max(errors),
            "true_error_median": statistics.median(true_errors),
            "true_error_max": max(true_errors),
        }
        if "published" in summary:
            row["speedup"] = summary["published"]["time_median_s"] / row["time_median_s"]
        summary[name] = row
    return summary


def main() -> None:
    """Print a line for each of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3, help="of this package in each turn")
    parser.add_argument("--without-torchopt", action="store_true", help="this package alone")
    parser.add_argument("--with-corrected", action="store_true")
    parser.add_argument("--equal-steps", action="store_true")
    parser.add_argument("--environment", type=Path, default=default_environment(), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    runs = collect(args)
    summary = summarise(runs)
    print("errors of u: from u* for the residuals of the run's own model, and from the true u")
    for name, row in summary.items():
        speedup = f", {row['speedup']:.1f} times as fast" if "speedup" in row else ""
        print(
            f"{name:<23} {row['time_median_s']:7.2f} s "
            f"({row['time_min_s']:.2f} to {row['time_max_s']:.2f}){speedup}; "
            f"u {row['u_hat_median']:.3f} ({row['u_hat_min']:.3f} to {row['u_hat_max']:.3f}), "
            f"errors {row['error_median']:.1%} (at most {row['error_max']:.1%}) "
            f"and {row['true_error_median']:.1%} (at most {row['true_error_max']:.1%})"
        )
    if args.json:
        content = {"summary": summary, "runs": runs}
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
