"""Gymnasium's own checker; what it raises and warns of becomes findings."""

import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from mbrl_bilevel.experiments.check_env.report import Finding, found

COLOURS = re.compile(r"\x1b\[[0-9;]*m")

HARMLESS = (
    "is different from the unwrapped version",  # only what gymnasium.make adds is taken off
    "minimum value is -infinity",  # observations are normalised by what is seen
    "maximum value is infinity",
    "symmetric and normalized space",  # actions are rescaled to [-1, 1]
    "no render modes was declared",
    "No render fps was declared",
)
"""Parts of warnings that say nothing for model-based training."""


def check_by_gymnasium(env: gym.Env[Any, Any], *, may_close: bool) -> Iterator[Finding]:
    """Run it, without rendering.

    Args:
        env: Unused so far, if `may_close`.
        may_close: Whether the environment may be closed to check that, too.
    """
    while isinstance(
        env,
        gym.wrappers.OrderEnforcing | gym.wrappers.PassiveEnvChecker | gym.wrappers.TimeLimit,
    ):
        env = env.env
    failure = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            gymnasium_check_env(env, skip_render_check=True, skip_close_check=not may_close)
        except Exception as error:
            failure = found("gymnasium_check", f"{type(error).__name__}: {_plain(str(error))}")
    if failure is not None:
        yield failure
    for text in dict.fromkeys(_plain(str(warning.message)) for warning in caught):
        if not any(part in text for part in HARMLESS):
            yield found("gymnasium_warning", text)


def _plain(text: str) -> str:
    return " ".join(COLOURS.sub("", text).removeprefix("WARN: ").split())
