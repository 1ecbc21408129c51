"""`mbrl-bilevel check-env`."""

from argparse import Namespace
from typing import Any

from mbrl_bilevel.cli.commands import check_json_path

ERRORS_FOUND = 1


def check_env(arguments: Namespace) -> int:
    """`mbrl-bilevel check-env`."""
    from mbrl_bilevel.config import apply_override
    from mbrl_bilevel.experiments.check_env import check_env as check
    from mbrl_bilevel.runs import write_json_atomic

    check_json_path(arguments.json)
    data: dict[str, Any] = {"kwargs": {}}
    for word in arguments.kwargs:
        apply_override(data, f"kwargs.{word}")
    report = check(
        arguments.env_id,
        kwargs=data["kwargs"],
        num_episodes=arguments.episodes,
        seed=arguments.seed,
        show_progress=True,
    )
    if arguments.json is not None:
        write_json_atomic(arguments.json, report.to_dict())
    print(report.to_text())
    return ERRORS_FOUND if report.num_errors else 0
