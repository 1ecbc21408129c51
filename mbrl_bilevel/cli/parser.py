"""What can be typed."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mbrl_bilevel import __version__
from mbrl_bilevel.cli import check_env, commands, listings, settings_help

DEFAULT_CONFIG = "pets_pendulum"
DEFAULT_COLLECT_CONFIG = "collect_pendulum"
DEFAULT_FIT_CONFIG = "fit_pendulum"
DEFAULT_COMPARE_CONFIG = "compare_pendulum"


class _LazyEpilogParser(argparse.ArgumentParser):
    """Makes the list of fields only when help is asked for: it imports the agents."""

    make_epilog: Callable[[], str] | None = None

    def format_help(self) -> str:
        text = super().format_help()
        return text if self.make_epilog is None else f"{text}\n{self.make_epilog()}"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; each command sets `run`, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="mbrl-bilevel",
        description="Model-based reinforcement learning with bilevel dynamics models.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(
        required=True, metavar="COMMAND", parser_class=_LazyEpilogParser
    )
    _add_train(subparsers)
    _add_evaluate(subparsers)
    _add_collect(subparsers)
    _add_fit(subparsers)
    _add_compare(subparsers)
    _add_reproduce(subparsers)
    _add_check_env(subparsers)
    _add_list(subparsers)
    return parser


def _add_train(subparsers: Any) -> None:
    train = subparsers.add_parser(
        "train",
        help="train an agent",
        description="Train an agent as a configuration says, into a run folder.",
    )
    train.make_epilog = settings_help.describe_config
    _add_config(train, DEFAULT_CONFIG)
    _add_run_dir(train, "<config>")
    train.add_argument("--seed", type=int, metavar="N", help="short for seed=N")
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in --run-dir, or of the newest run of CONFIG",
    )
    train.set_defaults(run=lambda arguments: commands.train(arguments, DEFAULT_CONFIG))


def _add_evaluate(subparsers: Any) -> None:
    evaluate = subparsers.add_parser(
        "evaluate",
        help="evaluate a trained agent",
        description="Evaluate the newest checkpoint of a run.",
    )
    evaluate.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    evaluate.add_argument(
        "--episodes", type=_positive, metavar="N", help="default: the run's eval.episodes"
    )
    evaluate.add_argument(
        "--video", action="store_true", help="record the last episode to videos/evaluation.mp4"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    evaluate.set_defaults(run=commands.evaluate)


def _add_collect(subparsers: Any) -> None:
    collect = subparsers.add_parser(
        "collect",
        help="record a dataset with a policy",
        description="Record episodes with a policy into a Minari dataset. Interrupted, it goes on "
        "with the next episode when the same command is run again.",
    )
    collect.make_epilog = settings_help.describe_collect
    _add_config(collect, DEFAULT_COLLECT_CONFIG)
    collect.set_defaults(run=lambda arguments: commands.collect(arguments, DEFAULT_COLLECT_CONFIG))


def _add_fit(subparsers: Any) -> None:
    fit = subparsers.add_parser(
        "fit",
        help="fit dynamics models to a dataset",
        description="Fit dynamics models to recorded episodes by several objectives and seeds, "
        "and compare them on episodes of their own. Interrupted, it goes on with --resume and "
        "arrives at the same results.",
    )
    fit.make_epilog = settings_help.describe_fit
    _add_config(fit, DEFAULT_FIT_CONFIG)
    _add_run_dir(fit, "<config>")
    fit.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    fit.add_argument(
        "--resume",
        action="store_true",
        help="keep the finished models in --run-dir, or of the newest run of CONFIG, and train "
        "the others; everything else that is given must agree with the run's config.yaml",
    )
    fit.set_defaults(run=lambda arguments: commands.fit(arguments, DEFAULT_FIT_CONFIG))


def _add_compare(subparsers: Any) -> None:
    compare = subparsers.add_parser(
        "compare",
        help="compare objectives over tasks and seeds",
        description="Train every objective on every task with every seed, each in a process of its "
        "own, and report with intervals. Interrupted, it goes on with --resume and arrives at the "
        "same results. Exit status: 1 if a cell failed.",
    )
    compare.make_epilog = settings_help.describe_compare
    _add_config(compare, DEFAULT_COMPARE_CONFIG)
    _add_run_dir(compare, "<config>")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    compare.add_argument(
        "--resume",
        action="store_true",
        help="keep the finished cells in --run-dir, or of the newest run of CONFIG, and run the "
        "others; beside the run's config.yaml, how they are run may differ, and more may be asked "
        "for: seeds, tasks, objectives, values in grid",
    )
    compare.set_defaults(run=lambda arguments: commands.compare(arguments, DEFAULT_COMPARE_CONFIG))


def _add_reproduce(subparsers: Any) -> None:
    reproduce = subparsers.add_parser(
        "reproduce",
        help="recompute a figure or table of the paper",
        description="Recompute a figure or table of the paper into a run folder.",
    )
    reproduce.make_epilog = settings_help.describe_figures
    reproduce.add_argument("figure", metavar="NAME", help="fig1 to fig3 or table1 to table3")
    reproduce.add_argument("words", nargs="*", metavar="key=value", help="overrides")
    _add_run_dir(reproduce, "reproduce_<NAME>")
    reproduce.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    reproduce.add_argument(
        "--resume",
        action="store_true",
        help="keep the finished rows of a table in --run-dir, or of its newest run, and add the "
        "others; the settings must be those that it was started with",
    )
    reproduce.set_defaults(run=commands.reproduce)


def _add_check_env(subparsers: Any) -> None:
    check = subparsers.add_parser(
        "check-env",
        help="look for what keeps agents from learning in an environment",
        description="Check an environment by Gymnasium's checker and by playing random episodes, "
        "and say what each finding means for model-based training. Exit status: 0 without errors, "
        "1 with.",
    )
    check.add_argument("env_id", metavar="ID", help="as for env.id; my_module:MyEnv-v0, say")
    check.add_argument(
        "--episodes",
        type=_positive,
        metavar="N",
        help="to record (default: 5, or as many, up to 100, as make 500 steps)",
    )
    check.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of resets and actions (default: 0)"
    )
    check.add_argument(
        "--kwargs",
        nargs="+",
        default=[],
        metavar="key=value",
        help="arguments of the environment",
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    check.set_defaults(run=check_env.check_env)


def _add_list(subparsers: Any) -> None:
    listing = subparsers.add_parser(
        "list", help="list what there is", description="List what there is, a line each."
    )
    listing.add_argument("what", choices=sorted(listings.LISTINGS))
    listing.set_defaults(run=listings.list_names)


def _add_config(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "words",
        nargs="*",
        metavar="CONFIG | key=value",
        help=f"a name in configs/ or a .yaml file (default: {default}), then overrides",
    )


def _add_run_dir(command: argparse.ArgumentParser, group: str) -> None:
    command.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help=f"the run's folder (default: runs/{group}/<date-time>-s<seed>)",
    )


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number
