"""How episodes end: terminated, truncated, or not at all."""

from collections.abc import Iterator, Sequence
from numbers import Real

import numpy as np

from mbrl_bilevel.experiments.check_env.recording import RecordedEpisode
from mbrl_bilevel.experiments.check_env.report import Finding, found

MIN_EPISODES = 3
"""Episodes of one length that are needed to suspect a time limit."""
MIN_LENGTH = 10
"""Shorter tasks may well take the same number of steps always."""


def check_endings(episodes: Sequence[RecordedEpisode], time_limit: int | None) -> Iterator[Finding]:
    """Look at the ends.

    Args:
        episodes: Recorded.
        time_limit: Of `gymnasium.wrappers.TimeLimit`, if there is one.
    """
    given_up = [number for number, record in enumerate(episodes) if record.was_given_up]
    ended = [record for record in episodes if record.has_ended]
    if time_limit is None and given_up:
        length = len(episodes[given_up[0]].steps)
        yield found(
            "never_ends",
            f"episode {given_up[0]} was neither terminated nor truncated in {length} steps of "
            "random actions, and there is no time limit",
            episode=given_up[0],
            step=length,
        )
    elif time_limit is None and ended and not any(e.steps[-1].truncated for e in ended):
        yield found("no_time_limit", "episodes end by termination only, and there is no time limit")
    yield from _check_flags(episodes, time_limit)
    yield from _check_lengths(ended, time_limit)
    yield from _check_reward_after_end(episodes)


def _check_flags(episodes: Sequence[RecordedEpisode], time_limit: int | None) -> Iterator[Finding]:
    both = [
        number
        for number, record in enumerate(episodes)
        if record.has_ended
        and record.steps[-1].terminated
        and record.steps[-1].truncated
        # At the limit it may be chance: the wrapper truncates whatever the environment says.
        and len(record.steps) != time_limit
    ]
    if both:
        step = len(episodes[both[0]].steps)
        yield found(
            "both_flags",
            f"episode {both[0]}, step {step}: terminated and truncated are both true "
            f"(so in {len(both)} of {len(episodes)} episodes)",
            episode=both[0],
            step=step,
        )


def _check_lengths(ended: Sequence[RecordedEpisode], time_limit: int | None) -> Iterator[Finding]:
    lengths = {len(record.steps) for record in ended}
    if len(ended) < MIN_EPISODES or len(lengths) != 1:
        return
    (length,) = lengths
    only_terminated = all(e.steps[-1].terminated and not e.steps[-1].truncated for e in ended)
    if only_terminated and length >= MIN_LENGTH and length != time_limit:
        yield found(
            "time_as_termination",
            f"all {len(ended)} episodes were terminated after exactly {length} steps",
        )


def _check_reward_after_end(episodes: Sequence[RecordedEpisode]) -> Iterator[Finding]:
    for number, record in enumerate(episodes):
        reward = record.reward_after_end
        if isinstance(reward, Real | np.bool_) and float(reward) != 0.0:
            yield found(
                "reward_after_end",
                f"episode {number}: a step after the termination paid {float(reward):.4g}",
                episode=number,
                step=len(record.steps),
            )
            return
