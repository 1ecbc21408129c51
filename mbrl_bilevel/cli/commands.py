"""What the commands do. Heavy imports wait until a command needs them."""

import shlex
import shutil
import sys
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import Any

from mbrl_bilevel.errors import ConfigError, MBRLError

RUNS = Path("runs")


def train(arguments: Namespace, default_config: str) -> int:
    """`mbrl-bilevel train`."""
    from mbrl_bilevel import build
    from mbrl_bilevel.config import load_data
    from mbrl_bilevel.experiments import train as run_training
    from mbrl_bilevel.runs import default_run_path

    name, overrides = _split_words(arguments.words)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    run_path: Path | None = arguments.run_dir
    if arguments.resume:
        if run_path is not None and name is not None:
            raise ConfigError(
                f"CONFIG {name!r} with --resume and --run-dir: the run goes on with its own "
                "config.yaml; leave CONFIG out, and override single keys with key=value"
            )
        run_path = run_path or _newest_run(name or default_config)
        data = load_data(_config_of(run_path), overrides)
    else:
        data = load_data(_find(name or default_config), overrides)
    config = build.train_config(data)
    if run_path is None:
        run_path = default_run_path(RUNS, config.name, config.seed, datetime.now())
    summary = run_training(config, run_path, resume=arguments.resume)
    print(f"run:        {run_path}")
    if summary["status"] == "interrupted":
        print(f"stopped at {summary['env_steps']} steps, saved; go on with:")
        print(f"  mbrl-bilevel train --resume --run-dir {run_path}")
        return 130
    print(_result_line(summary))
    print(f"took:       {summary['wall_time_s']:.0f} s for {summary['env_steps']} steps")
    print(f"watch:      {_tensorboard()} --logdir {run_path}")
    return 0


def evaluate(arguments: Namespace) -> int:
    """`mbrl-bilevel evaluate`."""
    from mbrl_bilevel.experiments import evaluate_run
    from mbrl_bilevel.runs import write_json_atomic

    check_json_path(arguments.json)
    result = evaluate_run(arguments.run_dir, arguments.episodes, video=arguments.video)
    if arguments.json is not None:
        write_json_atomic(arguments.json, result)
    print(_result_line(result))
    if "video" in result:
        print(f"video:      {result['video']}")
    return 0


def reproduce(arguments: Namespace) -> int:
    """`mbrl-bilevel reproduce`."""
    from mbrl_bilevel.config.reproduce import reproduce_config
    from mbrl_bilevel.experiments.reproduce import can_resume
    from mbrl_bilevel.experiments.reproduce import reproduce as run_figure
    from mbrl_bilevel.runs import default_run_path, write_json_atomic

    config = reproduce_config(arguments.figure, arguments.words)
    check_json_path(arguments.json)
    group = f"reproduce_{arguments.figure}"
    run_path: Path | None = arguments.run_dir
    if run_path is None and arguments.resume:
        run_path = _newest_run(group)
    elif run_path is None:
        run_path = default_run_path(RUNS, group, config.seed, datetime.now())
    try:
        results, report = run_figure(config, run_path, resume=arguments.resume)
    except KeyboardInterrupt:
        if not can_resume(config):
            raise
        print("stopped; what is finished is kept; go on with:")
        words = ["mbrl-bilevel", "reproduce", arguments.figure, *arguments.words]
        print(f"  {shlex.join([*words, '--resume', '--run-dir', str(run_path)])}")
        return 130
    if arguments.json is not None:
        write_json_atomic(arguments.json, results)
    print(report)
    print(f"run:        {run_path}")
    return 0


def collect(arguments: Namespace, default_config: str) -> int:
    """`mbrl-bilevel collect`."""
    from mbrl_bilevel.config import CollectConfig, load_data, validate
    from mbrl_bilevel.experiments.collect import collect as record_dataset

    name, overrides = _split_words(arguments.words)
    config = validate(CollectConfig, load_data(_find(name or default_config), overrides))
    result = record_dataset(config)
    if result["status"] == "interrupted":
        print(f"stopped after {result['num_episodes']} of {config.episodes} episodes; go on with:")
        print(f"  {shlex.join(['mbrl-bilevel', 'collect', *arguments.words])}")
        return 130
    print(f"dataset:    {result['dataset_id']}")
    print(f"folder:     {result['path']}")
    print(
        f"recorded:   {result['num_episodes']} episodes, {result['num_steps']} steps, "
        f"return {result['return_mean']:.1f} +- {result['return_std']:.1f}"
    )
    return 0


def fit(arguments: Namespace, default_config: str) -> int:
    """`mbrl-bilevel fit`."""
    from mbrl_bilevel.config import load_data
    from mbrl_bilevel.config.fit import fit_config
    from mbrl_bilevel.experiments.fit import fit as fit_models
    from mbrl_bilevel.experiments.fit import open_fit
    from mbrl_bilevel.runs import default_run_path

    name, overrides = _split_words(arguments.words)
    check_json_path(arguments.json)
    run_path: Path | None = arguments.run_dir
    if arguments.resume:
        run_path = run_path or _newest_run(name or default_config)
        run, _ = open_fit(run_path)
        # With --run-dir this may be the command that the fit was started with: it must agree.
        source = _find(name) if name is not None and arguments.run_dir else run.config_path
    else:
        source = _find(name or default_config)
    config = fit_config(load_data(source, overrides))
    if run_path is None:
        run_path = default_run_path(RUNS, config.name, config.seed, datetime.now())
    result = fit_models(config, run_path, arguments.json, resume=arguments.resume)
    num_models = len(config.objective) * config.seeds
    if result.status == "already completed":
        print(f"run:        {run_path}")
        print(f"completed already, all {num_models} models; nothing to do")
        return 0
    if result.report:
        print(result.report)
    print(f"run:        {run_path}")
    if result.status == "interrupted":
        num_finished = len(result.results["results"])
        print(f"stopped after {num_finished} of {num_models} models, kept; go on with:")
        print(f"  {shlex.join(['mbrl-bilevel', 'fit', '--resume', '--run-dir', str(run_path)])}")
        return 130
    print(f"watch:      {_tensorboard()} --logdir {run_path}")
    return 0


def compare(arguments: Namespace, default_config: str) -> int:
    """`mbrl-bilevel compare`."""
    from mbrl_bilevel.config import load_data, validate
    from mbrl_bilevel.config.compare import CompareConfig
    from mbrl_bilevel.experiments.compare import compare as compare_objectives
    from mbrl_bilevel.runs import RunDir, default_run_path, write_json_atomic

    name, overrides = _split_words(arguments.words)
    check_json_path(arguments.json)
    run_path: Path | None = arguments.run_dir
    source = _find(name or default_config)
    if arguments.resume:
        run_path = run_path or _newest_run(name or default_config)
        own = RunDir.open(run_path).config_path
        # With --run-dir this may be the command that it was started with: it must agree.
        source = source if name is not None and arguments.run_dir else own
    config = validate(CompareConfig, load_data(source, overrides))
    if run_path is None:
        run_path = default_run_path(RUNS, config.name, config.seed, datetime.now())
    options = ["--resume"] if arguments.resume else []
    command = shlex.join(["mbrl-bilevel", "compare", *options, *arguments.words])
    result = compare_objectives(config, run_path, command, resume=arguments.resume)
    if arguments.json is not None:
        write_json_atomic(arguments.json, {"results": result.rows})
    print(result.report)
    print(f"run:        {run_path}")
    if result.status == "interrupted":
        print(f"stopped after {len(result.rows)} of {result.num_cells} cells, kept; go on with:")
        words = ["mbrl-bilevel", "compare", "--resume", "--run-dir", str(run_path)]
        print(f"  {shlex.join(words)}")
        return 130
    print(f"watch:      {_tensorboard()} --logdir {run_path}")
    return 1 if result.num_failed else 0


def _split_words(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the configuration's name, if given, and the overrides."""
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ConfigError(
            f"one CONFIG at most, got {' and '.join(map(repr, names))}; overrides are key=value"
        )
    return (names[0] if names else None), [word for word in words if "=" in word]


def _find(name: str) -> Path:
    from mbrl_bilevel.config import find_config

    return find_config(name)


def check_json_path(path: Path | None) -> None:
    """Raise ConfigError, before any work is done, if --json names a file that cannot be made."""
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"--json {path}: its folder does not exist")


def _newest_run(config: str) -> Path:
    from mbrl_bilevel.runs import latest_run

    run = latest_run(RUNS, Path(config).stem)
    if run is None:
        raise MBRLError(f"no run of {config!r} below {RUNS}/ to resume; name one with --run-dir")
    return run


def _config_of(run_path: Path) -> Path:
    from mbrl_bilevel.runs import RunDir

    return RunDir.open(run_path).config_path


def _result_line(result: dict[str, Any]) -> str:
    success = f", success rate {result['success_rate']:.0%}" if "success_rate" in result else ""
    return (
        f"evaluation: {result['eval_return_mean']:.1f} +- {result['eval_return_std']:.1f} "
        f"over {result['eval_episodes']} episodes{success}"
    )


def _tensorboard() -> str:
    """Return how TensorBoard can be started, from an environment that is not activated, too."""
    beside_python = Path(sys.executable).parent / "tensorboard"
    if shutil.which("tensorboard") or not beside_python.exists():
        return "tensorboard"
    here = Path.cwd()
    return str(beside_python.relative_to(here) if here in beside_python.parents else beside_python)
