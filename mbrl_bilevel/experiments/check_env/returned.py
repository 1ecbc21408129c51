"""What the environment returned, item by item: types, shapes, bounds, numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_bilevel.experiments.check_env.faults import Severity
from mbrl_bilevel.experiments.check_env.leaves import value_leaves
from mbrl_bilevel.experiments.check_env.recording import RecordedEpisode, RecordedStep
from mbrl_bilevel.experiments.check_env.report import Finding, found


def check_returned(
    episodes: Sequence[RecordedEpisode], observation_space: gym.Space[Any]
) -> Iterator[Finding]:
    """Look at every observation, reward, flag and info; the first case of each fault is shown."""
    first: dict[tuple[str, str], Finding] = {}
    counts: dict[tuple[str, str], int] = {}
    for episode, record in enumerate(episodes):
        for step, found_there in enumerate(_look_at(record, observation_space)):
            for part, finding in found_there:
                key = (finding.code, part)
                counts[key] = counts.get(key, 0) + 1
                if key not in first:
                    where = f"episode {episode}, " + (f"step {step}" if step else "reset")
                    first[key] = replace(
                        finding, what=f"{where}: {finding.what}", episode=episode, step=step
                    )
    num_steps = sum(len(record.steps) for record in episodes)
    num_returned = num_steps + len(episodes)
    for key, finding in first.items():
        total = num_returned if finding.code.startswith("obs") else num_steps
        more = f" (so in {counts[key]} of {total})" if counts[key] > 1 else ""
        yield replace(finding, what=finding.what + more)


def _look_at(record: RecordedEpisode, space: gym.Space[Any]) -> Iterator[list[tuple[str, Finding]]]:
    """Yield what is found in the reset, then in each step, with the part that it is found in."""
    if not (record.steps or record.failure is None or record.failure.code == "step_fails"):
        return
    yield list(_check_observation(space, record.start))
    for step in record.steps:
        yield [
            *_check_observation(space, step.obs),
            *(("", finding) for finding in _check_step(step)),
        ]


def _check_observation(space: gym.Space[Any], obs: Any) -> Iterator[tuple[str, Finding]]:
    for path, leaf, value in value_leaves(space, obs):
        name = f"observation{path}"
        if isinstance(leaf, spaces.Box):
            yield from ((path, finding) for finding in _check_box(name, leaf, value))
        elif not leaf.contains(value):
            what = f"{name} {value!r} is not in {leaf}"
            yield path, found("obs_outside_space", what)


def _check_box(name: str, space: spaces.Box, value: Any) -> Iterator[Finding]:
    if not isinstance(value, np.ndarray | np.generic):
        yield found("obs_type", f"{name} is {value!r}, a {type(value).__name__}, no NumPy array")
        return
    if value.shape != space.shape:
        yield found("obs_shape", f"{name} has shape {value.shape}, its space {space.shape}")
        return
    if value.dtype != space.dtype:
        fits = np.can_cast(value.dtype, space.dtype)
        yield found(
            "obs_dtype",
            f"{name} has dtype {value.dtype}, its space {space.dtype}",
            severity=Severity.NOTE if fits else None,
        )
    if value.dtype.kind not in "fiub":
        return
    numbers = np.asarray(value, np.float64).reshape(-1)
    yield from _check_numbers(name, numbers, space)


def _check_numbers(name: str, numbers: NDArray[np.float64], space: spaces.Box) -> Iterator[Finding]:
    if (bad := np.flatnonzero(~np.isfinite(numbers))).size:
        what = f"{name}, dimension {bad[0]}, is {numbers[bad[0]]}"
        yield found("obs_not_finite", what, dimensions=tuple(bad.tolist()))
    low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
    if (outside := np.flatnonzero((numbers < low) | (numbers > high))).size:
        index = outside[0]
        side, bound = ("below", low) if numbers[index] < low[index] else ("above", high)
        excess = np.abs(numbers - np.clip(numbers, low, high))[outside]
        # Of float32, which the bounds of a space often were rounded to.
        is_rounding = (excess <= 1e-6 * (1 + np.abs(numbers[outside]))).all()
        yield found(
            "obs_outside_space",
            f"{name}, dimension {index}, is {numbers[index]:.7g}, {side} the space's "
            f"{bound[index]:.7g}" + (", by rounding" if is_rounding else ""),
            dimensions=tuple(outside.tolist()),
            severity=Severity.NOTE if is_rounding else None,
        )


def _check_step(step: RecordedStep) -> Iterator[Finding]:
    if not isinstance(step.reward, Real | np.bool_):
        shown = f"{step.reward!r}, a {type(step.reward).__name__}"
        yield found("reward_type", f"the reward is {shown}, no number")
    elif not np.isfinite(float(step.reward)):
        yield found("reward_not_finite", f"the reward is {step.reward}")
    for name in ("terminated", "truncated"):
        flag = getattr(step, name)
        if not isinstance(flag, bool | np.bool_):
            yield found("flag_type", f"{name} is {flag!r}, a {type(flag).__name__}, no bool")
    if not isinstance(step.info, dict):
        yield found("info_type", f"info is {step.info!r}, a {type(step.info).__name__}, no dict")
    if step.action_was_modified:
        yield found("action_modified", f"step changed the action it was given, {step.action!r}")
    if step.last_obs_was_modified:
        yield found("obs_reused", "step changed the array returned before")
