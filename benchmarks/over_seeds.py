"""What did runs of one configuration reach, over their seeds?

    python benchmarks/over_seeds.py RUN [RUN ...] --to FOLDER [--beside JSON]

reads the folders of finished runs that differ in their seeds alone, and writes to FOLDER:

- `results.json`: each seed's return after training and its evaluations on the way, the
  interquartile mean of the returns and its 95% interval (bootstrap over seeds);
- `curves.png`: the evaluations, and what `benchmarks/model_free.py --json JSON` left beside them.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mbrl_bilevel.evaluation.plots import GREY, STYLE, WIDTH_INCHES, save_figure, whole_numbers
from mbrl_bilevel.experiments.compare.statistics import estimate, interquartile_mean
from mbrl_bilevel.runs import read_metrics, write_json_atomic

RESAMPLES = 10_000
IDENTITY = ("name", "env_id", "agent", "objective", "total_timesteps")
"""What the summaries of runs have in common if nothing but their seeds differs."""


def collect(folders: Sequence[Path]) -> dict[str, Any]:
    """Return what `results.json` holds.

    Raises:
        SystemExit: If a run is not finished, or is of something else than the first, or of a seed
            that is there already.
    """
    runs: dict[int, dict[str, Any]] = {}
    identity: dict[str, Any] = {}
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if summary["status"] != "completed":
            raise SystemExit(f"{folder} is {summary['status']}; allowed: completed runs")
        own = {key: summary[key] for key in IDENTITY}
        if identity and own != identity:
            raise SystemExit(f"{folder} is of {own}; allowed: {identity}, as the first")
        if summary["seed"] in runs:
            raise SystemExit(f"{folder} is of seed {summary['seed']}, as another is")
        identity = own
        runs[summary["seed"]] = summary | {"evaluations": _evaluations(folder)}
    seeds = sorted(runs)
    returns = np.array([runs[seed]["eval_return_mean"] for seed in seeds])
    middle = estimate(interquartile_mean, [returns], RESAMPLES)
    return identity | {
        "command": f"mbrl-bilevel train {identity['name']} --seed S",
        "eval_episodes": runs[seeds[0]]["eval_episodes"],
        "returns": {str(seed): runs[seed]["eval_return_mean"] for seed in seeds},
        "iqm": middle.value,
        "interval": [middle.low, middle.high],
        "wall_time_s": {str(seed): round(runs[seed]["wall_time_s"]) for seed in seeds},
        "evaluations": {str(seed): runs[seed]["evaluations"] for seed in seeds},
    }


def draw(results: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> Figure:
    """Return the figure of each seed's evaluations, and of the other's returns at its last step."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="environment steps", ylabel="mean evaluation return")
        axes.xaxis.set_major_locator(whole_numbers())
        for seed, points in results["evaluations"].items():
            axes.plot(*zip(*points, strict=True), "o-", lw=1.2, ms=3, label=f"seed {seed}")
        if beside is not None:
            label = f"{beside['algorithm']}, {beside['steps']:,} steps"
            place = np.full(len(beside["returns"]), beside["steps"])
            axes.plot(place, beside["returns"], "x", color=GREY, ms=7, label=label)
        axes.legend(fontsize=9)
    return figure


def _evaluations(folder: Path) -> list[list[float]]:
    tag = "eval/mean_reward"
    rows = read_metrics(folder / "metrics.jsonl")
    newest = {row["step"]: round(row[tag], 1) for row in rows if row.get(tag) is not None}
    return [[step, value] for step, value in newest.items()]


def main() -> None:
    """Collect, print a line for the table, write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--beside", type=Path)
    args = parser.parse_args()
    results = collect(args.runs)
    beside = json.loads(args.beside.read_text(encoding="utf-8")) if args.beside else None
    args.to.mkdir(parents=True, exist_ok=True)
    write_json_atomic(args.to / "results.json", results | ({"beside": beside} if beside else {}))
    save_figure(draw(results, beside), args.to / "curves.png")
    text = ", ".join(f"{value:,.1f}" for value in results["returns"].values())
    low, high = results["interval"]
    print(f"seeds {', '.join(results['returns'])}: {text}")
    print(f"IQM {results['iqm']:,.1f} [{low:,.1f}, {high:,.1f}]")


if __name__ == "__main__":
    main()
