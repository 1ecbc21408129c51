"""What a task is, and where tasks are registered and found."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any

import gymnasium as gym

from mbrl_bilevel.errors import EnvError
from mbrl_bilevel.tabular import TabularMDP
from mbrl_bilevel.types import RewardFn, TerminationFn
from mbrl_envs.tasks.compatibility import changed_kwargs, changing_wrappers, has_kwargs

logger = getLogger(__name__)

TablesFn = Callable[[gym.Env[Any, Any]], TabularMDP]
"""Reads the tables of a finite environment."""


@dataclass(frozen=True)
class Task:
    """The known parts of an environment; a function that is None has to be learned.

    Attributes:
        env_id: The id in Gymnasium's registry, with namespace and version, without a module.
        reward_fn: Exact reward of a step.
        termination_fn: Exact termination of a step.
        harmless_kwargs: Arguments of the environment that change neither function.
        kwargs: Arguments that the environment has to be made with for the functions to hold.
        tables_fn: Reads the exact tables of a finite environment.
    """

    env_id: str
    reward_fn: RewardFn | None
    termination_fn: TerminationFn | None
    harmless_kwargs: frozenset[str] = frozenset()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    tables_fn: TablesFn | None = None


_TASKS: dict[str, tuple[Task, ...]] = {}
"""The tasks of each id: at most one for the same `kwargs`, those with the most first."""


def register_task(
    env_id: str,
    *,
    reward_fn: RewardFn | None = None,
    termination_fn: TerminationFn | None = None,
    harmless_kwargs: Iterable[str] = (),
    kwargs: Mapping[str, Any] | None = None,
    tables_fn: TablesFn | None = None,
) -> None:
    """Make the reward and the termination of an environment known.

    An id may have several tasks, for different `kwargs`; the one that asks for the most is used.
    Registering the same functions again does nothing.

    Args:
        env_id: As for `gym.make`; a module before a colon is ignored. Need not be registered yet.
        reward_fn: Exact reward of a step; None to have it learned.
        termination_fn: Exact termination of a step; None to have it learned.
        harmless_kwargs: Arguments of the environment that change neither function. With any other
            argument than the registered ones (and those for rendering) the task is not used.
        kwargs: Arguments that the environment has to be made with for the functions to hold.
        tables_fn: Reads the exact tables of such an environment, if it is a finite one:
            `read_tables` does where they are in Gymnasium's toy-text format.

    Raises:
        EnvError: A function cannot be called, all are missing, or `env_id` has another task for
            the same `kwargs`.
    """
    for name, function in (
        ("reward_fn", reward_fn),
        ("termination_fn", termination_fn),
        ("tables_fn", tables_fn),
    ):
        if function is not None and not callable(function):
            raise EnvError(
                f"Task {env_id!r}: {name} must be callable or None, got {function!r} "
                f"of type {type(function).__name__}."
            )
    if reward_fn is None and termination_fn is None and tables_fn is None:
        raise EnvError(
            f"Task {env_id!r}: give reward_fn, termination_fn or both, got neither "
            "(nor the tables_fn of a finite environment)."
        )

    task = Task(
        _without_module(env_id),
        reward_fn,
        termination_fn,
        frozenset(harmless_kwargs),
        dict(kwargs or {}),
        tables_fn,
    )
    known = _TASKS.get(task.env_id, ())
    for other in known:
        if other.kwargs == task.kwargs and other != task:
            raise EnvError(
                f"Task {task.env_id!r} is registered already, and differs: "
                f"got {task}, there is {other}. An environment has one task for the same kwargs; "
                "register yours under an id of its own."
            )
    if task not in known:
        _TASKS[task.env_id] = tuple(sorted((*known, task), key=lambda each: -len(each.kwargs)))


def list_tasks() -> list[Task]:
    """Return the registered tasks, sorted by id; those of the same id by what they ask for."""
    return [task for env_id in sorted(_TASKS) for task in reversed(_TASKS[env_id])]


def find_task(env: gym.Env[Any, Any]) -> Task | None:
    """Return the task of an environment, if it is known to hold for this very instance.

    Returns None for an environment without a task, and, with a logged warning, for one whose
    wrappers or arguments would make the task's functions wrong.
    """
    spec = env.unwrapped.spec
    if spec is None or spec.id not in _TASKS:
        return None
    if wrappers := changing_wrappers(env, spec):
        _warn(spec.id, f"is wrapped in {', '.join(wrappers)}")
        return None
    misfits: list[list[str]] = []
    for task in _TASKS[spec.id]:
        if has_kwargs(spec, task.kwargs):
            changed = changed_kwargs(spec, {*task.harmless_kwargs, *task.kwargs})
            if not changed:
                return task
            misfits.append(changed)
    if misfits:
        _warn(spec.id, f"was made with {', '.join(misfits[0])}")
    return None


def _warn(env_id: str, reason: str) -> None:
    logger.warning(
        "The known reward and termination of %s are not used: the environment %s.",
        env_id,
        reason,
    )


def _without_module(env_id: str) -> str:
    """`module:namespace/Name-v0` -> `namespace/Name-v0`, the id that Gymnasium registers."""
    return env_id.rpartition(":")[2]
