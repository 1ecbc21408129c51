"""Episodes of random actions, recorded as returned: nothing is converted, nothing is refused."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from mbrl_bilevel.experiments.check_env.report import Finding, found

MAX_EPISODE_STEPS = 10_000
"""Steps after which an episode is given up."""


@dataclass(frozen=True)
class RecordedStep:
    """What went into `env.step`, and copies of what came back."""

    action: Any
    obs: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: Any
    action_was_modified: bool
    last_obs_was_modified: bool

    @property
    def ends_episode(self) -> bool:
        return bool(self.terminated) or bool(self.truncated)


@dataclass
class RecordedEpisode:
    """One episode.

    Attributes:
        start: The observation of the reset.
        steps: All of them.
        failure: What stopped it, should it not have ended by itself.
        reward_after_end: What a further step paid after a termination; None if it refused.
    """

    start: Any = None
    steps: list[RecordedStep] = field(default_factory=list)
    failure: Finding | None = None
    reward_after_end: Any = None

    @property
    def observations(self) -> list[Any]:
        """That of the reset first."""
        return [self.start, *(step.obs for step in self.steps)]

    @property
    def last_obs(self) -> Any:
        """A copy of the latest observation, made when it was returned."""
        return self.steps[-1].obs if self.steps else self.start

    @property
    def has_ended(self) -> bool:
        return bool(self.steps) and self.steps[-1].ends_episode

    @property
    def was_given_up(self) -> bool:
        """It neither ended nor failed within `MAX_EPISODE_STEPS`."""
        return not self.has_ended and self.failure is None


def random_actions(space: gym.Space[Any], seed: int, *, at_bounds: bool = False) -> Iterator[Any]:
    """Yield actions without end, from a copy of the space: the environment's own stays as it is.

    Args:
        space: Of the actions.
        seed: Of the draws.
        at_bounds: Push each dimension of a bounded Box to its lower or upper bound, as planners do.
    """
    own = deepcopy(space)
    own.seed(seed)
    if not (at_bounds and isinstance(own, spaces.Box) and own.is_bounded("both")):
        while True:
            yield own.sample()
    generator = np.random.default_rng(seed)
    while True:
        yield np.where(generator.random(own.shape) < 0.5, own.low, own.high).astype(own.dtype)


def record_episode(
    env: gym.Env[Any, Any],
    seed: int,
    actions: Iterable[Any],
    *,
    episode: int = 0,
) -> RecordedEpisode:
    """Reset with a seed and step until the end, the last action, too many, or a failure."""
    record = RecordedEpisode()
    step = 0
    try:
        last_obs = _reset(env, seed)
        record.start = deepcopy(last_obs)
        for step, action in enumerate(islice(actions, MAX_EPISODE_STEPS), start=1):  # noqa: B007
            handed_in = deepcopy(action)
            result = _step(env, handed_in)
            recorded = RecordedStep(
                action,
                *deepcopy(result),
                not is_same(action, handed_in),
                not is_same(last_obs, record.last_obs),
            )
            record.steps.append(recorded)
            last_obs = result[0]
            if recorded.ends_episode:
                break
    except _BrokenCallError as broken:
        where = f"episode {episode}, step {step}: {broken}"
        record.failure = found(broken.code, where, episode=episode, step=step)
    if record.has_ended and record.steps[-1].terminated:
        record.reward_after_end = _reward_after_end(env, record.steps[-1].action)
    return record


class _BrokenCallError(Exception):
    """A call that raised, or returned something without the right form."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


def _reset(env: gym.Env[Any, Any], seed: int) -> Any:
    try:
        returned: Any = env.reset(seed=seed)
    except Exception as error:
        raise _BrokenCallError("reset_fails", f"reset(seed={seed}) raised {_text(error)}") from None
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise _BrokenCallError("reset_fails", f"reset returned {_short(returned)}")
    return returned[0]


def _step(env: gym.Env[Any, Any], action: Any) -> tuple[Any, Any, Any, Any, Any]:
    call = f"step({_short(action)})"
    try:
        result: Any = env.step(action)
    except Exception as error:
        raise _BrokenCallError("step_fails", f"{call} raised {_text(error)}") from None
    if not (isinstance(result, tuple) and len(result) == 5):
        raise _BrokenCallError("step_fails", f"{call} returned {_short(result)}")
    return result


@contextmanager
def closing(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """Close an environment in the end; Gymnasium's checker says if that fails."""
    try:
        yield env
    finally:
        with suppress(Exception):
            env.close()


def is_same(first: Any, second: Any) -> bool:
    """Whether two returned things are equal to the bit; nan equals nan."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(is_same(first[k], second[k]) for k in first)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(is_same, first, second))
    a, b = np.asarray(first), np.asarray(second)
    is_number = a.dtype.kind in "fc" and b.dtype.kind in "fc"
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=is_number)


def _reward_after_end(env: gym.Env[Any, Any], action: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of environments that say it is not allowed
        try:
            return deepcopy(env.step(action)[1])
        except Exception:
            return None


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _short(value: Any, limit: int = 80) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else f"{text[:limit]}... ({type(value).__name__})"
