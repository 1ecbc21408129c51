"""Whether a seed and actions give the same episode again, and if not, where the chance is drawn."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np

from mbrl_bilevel.experiments.check_env.faults import Severity
from mbrl_bilevel.experiments.check_env.recording import (
    RecordedEpisode,
    closing,
    is_same,
    random_actions,
    record_episode,
)
from mbrl_bilevel.experiments.check_env.report import Finding, found
from mbrl_bilevel.runs import capture_rng_state, derive_seed, restore_rng_state, seed_everything

NUM_STEPS = 100
"""Steps that are repeated."""


def check_determinism(
    env: gym.Env[Any, Any], seed: int, make_another: Callable[[], gym.Env[Any, Any]] | None
) -> Iterator[Finding]:
    """Play one episode twice, in the same environment and in another one made alike.

    The actions are drawn beforehand: chance in the action space's sampling plays no part.

    Args:
        env: Has been used before.
        seed: Of the reset and of the actions.
        make_another: Makes an environment like `env`, which is closed again.
    """
    actions = list(islice(random_actions(env.action_space, seed), NUM_STEPS))
    first = record_episode(env, seed, actions)
    second = record_episode(env, seed, actions)
    if (difference := _difference(first, second)) is not None:
        code, what = difference
        is_declared = env.spec is not None and env.spec.nondeterministic
        yield found(
            code,
            f"{what}, after the same seed and the same actions; "
            + ("it is registered as nondeterministic" if is_declared else _source(env, actions)),
            severity=Severity.NOTE if is_declared else None,
        )
    elif make_another is not None:
        with closing(make_another()) as other:
            difference = _difference(first, record_episode(other, seed, actions))
        if difference is not None:
            yield found("instances_differ", f"in another environment made alike: {difference[1]}")


def check_starts(
    episodes: Sequence[RecordedEpisode],
) -> Iterator[Finding]:
    """See whether different seeds start in different states."""
    starts = [record.start for record in episodes if record.steps]
    if len(starts) > 1 and all(is_same(starts[0], start) for start in starts[1:]):
        yield found("one_start", f"the observation of {len(starts)} resets is the same")


def _difference(first: RecordedEpisode, second: RecordedEpisode) -> tuple[str, str] | None:
    """Return code and text of the first difference."""
    if not is_same(first.start, second.start):
        return (
            "reset_not_deterministic",
            f"reset returned {_compared('observation', first.start, second.start)}",
        )
    pairs = zip(first.steps, second.steps, strict=False)
    for number, (a, b) in enumerate(pairs, start=1):
        for name in ("obs", "reward", "terminated", "truncated"):
            if not is_same(getattr(a, name), getattr(b, name)):
                values = _compared(name, getattr(a, name), getattr(b, name))
                return "step_not_deterministic", f"step {number} returned {values}"
    if len(first.steps) != len(second.steps):
        lengths = f"{len(first.steps)} and {len(second.steps)}"
        return "step_not_deterministic", f"one episode failed: {lengths} steps"
    return None


def _compared(name: str, first: Any, second: Any) -> str:
    a, b = np.asarray(first), np.asarray(second)
    if a.shape == b.shape and a.ndim == 1:
        index = int(np.flatnonzero(~((a == b) | ((a != a) & (b != b))))[0])
        return f"{name}, dimension {index}, {a[index]!s} and {b[index]!s}"
    return f"{name} {' '.join(str(first).split())} and {' '.join(str(second).split())}"


def _source(env: gym.Env[Any, Any], actions: Sequence[Any]) -> str:
    """Find out what has to be seeded besides for the episode to repeat itself."""
    state = capture_rng_state()
    try:
        if _repeats(env, actions, lambda: seed_everything(0)):
            return "it draws from a global generator (random, np.random or torch)"
    finally:
        restore_rng_state(state)

    def seed_spaces() -> None:
        for space in (env.unwrapped.action_space, env.unwrapped.observation_space):
            space.seed(0)

    if _repeats(env, actions, seed_spaces):
        return "it draws samples from its spaces, which reset does not seed"
    return "neither the global generators nor its spaces are the source"


def _repeats(env: gym.Env[Any, Any], actions: Sequence[Any], seed_more: Callable[[], None]) -> bool:
    seed = derive_seed(0, "source")
    episodes = []
    for _ in range(2):
        seed_more()
        episodes.append(record_episode(env, seed, actions))
    return _difference(*episodes) is None
