"""Reads transitions from an NPZ file.

Keys: `obs` and `next_obs` `[N, D]`, `action` (numbers `[N, A]`, or integers `[N]` for a Discrete
space), `reward`, `terminated` and `truncated` `[N]`. Rows are in the order of recording; an
episode ends where `terminated | truncated`, and with the last row. Optional: `action_low` and
`action_high` `[A]`, the bounds of the action space (else the range of the data).
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_bilevel.data.datasets.arrays import empty_transitions
from mbrl_bilevel.data.datasets.checks import (
    bounded_action_space,
    check_finite,
    check_observation_space,
)
from mbrl_bilevel.data.datasets.dataset import EpisodeDataset, IndexArray
from mbrl_bilevel.data.replay_buffer import Transitions
from mbrl_bilevel.errors import DatasetError

FIELDS = {
    "obs": "obs",
    "action": "actions",
    "reward": "rewards",
    "next_obs": "next_obs",
    "terminated": "terminated",
    "truncated": "truncated",
}
"""From a key of the file to the attribute of `Transitions`."""


def read_npz(path: Path, memory_limit: int) -> EpisodeDataset:
    """Read the transitions in an NPZ file, one array at a time.

    Raises:
        DatasetError: If it is damaged, lacks a key, or its arrays do not fit together.
    """
    name = str(path)
    with _open(path) as file:
        missing = [key for key in FIELDS if key not in file]
        if missing:
            raise DatasetError(
                f"dataset {name} lacks {', '.join(map(repr, missing))}; it has "
                f"{', '.join(map(repr, file)) or 'nothing'}, and needs {', '.join(FIELDS)}"
            )
        obs = file["obs"]
        if not obs.size:
            raise DatasetError(f"dataset {name} is empty")
        obs_space = check_observation_space(
            name, spaces.Box(-np.inf, np.inf, obs.shape[1:], np.float32)
        )
        actions = file["action"]
        is_discrete = actions.ndim == 1 and np.issubdtype(actions.dtype, np.integer)
        action_shape = () if is_discrete else (int(np.prod(actions.shape[1:])),)
        steps = empty_transitions(len(obs), obs_space.shape[0], action_shape, memory_limit)
        del obs, actions
        for key, attribute in FIELDS.items():
            _fill(name, key, file[key], getattr(steps, attribute))
        bounds = [file.get(key) for key in ("action_low", "action_high")]
    starts = _episode_starts(steps)
    _check_rows(name, steps, starts)
    return EpisodeDataset(
        steps=steps,
        starts=starts,
        name=name,
        observation_space=obs_space,
        action_space=_action_space(name, steps.actions, bounds),
        memory_limit=memory_limit,
    )


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        # Arrays of Python objects would run code when read: they are refused.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DatasetError(f"{path} holds a single array; allowed: an NPZ file with keys")
            yield file
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path} is damaged or no NPZ file: {error}") from error


def _fill(name: str, key: str, values: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy one array of the file into its place."""
    if key == "action" and values.ndim == 1 and out.ndim == 2:
        values = values[:, None]
    values = values.reshape(len(values), -1) if key == "action" and out.ndim == 2 else values
    if values.shape != out.shape:
        raise DatasetError(
            f"dataset {name}: lengths disagree: {key!r} has the shape {values.shape}, expected "
            f"{out.shape}"
        )
    if out.dtype == np.bool_ and not np.isin(values, (0, 1)).all():
        raise DatasetError(f"dataset {name}: {key!r} must hold true and false only")
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == np.bool_):
        raise DatasetError(f"dataset {name}: {key!r} holds {values.dtype}; allowed: numbers")
    with np.errstate(over="ignore"):  # what does not fit into float32 is found as infinite
        out[:] = values


def _episode_starts(steps: Transitions) -> IndexArray:
    ends = np.flatnonzero(steps.terminated | steps.truncated) + 1
    starts = np.concatenate([[0], ends]).astype(np.int64)
    return starts[starts < len(steps)]


def _check_rows(name: str, steps: Transitions, starts: IndexArray) -> None:
    ends = np.append(starts[1:], len(steps))
    for episode, (start, end) in enumerate(zip(starts, ends, strict=True)):
        where = f"dataset {name}, episode {episode}"
        part = steps[start:end]
        check_finite(where, "observation", part.obs)
        check_finite(where, "next observation", part.next_obs)
        check_finite(where, "action", part.actions)
        check_finite(where, "reward", part.rewards)
        # A file of shuffled transitions has no episodes to split by or to predict along.
        jumps = np.abs(part.next_obs[:-1] - part.obs[1:]) > 1e-3 * (1 + np.abs(part.obs[1:]))
        if jumps.any():
            step = int(np.argwhere(jumps)[0, 0])
            raise DatasetError(
                f"{where}: next_obs of step {step} is not obs of step {step + 1}; rows must be in "
                "the order of recording, and each episode's last one terminated or truncated"
            )


def _action_space(
    name: str, actions: NDArray[Any], bounds: list[NDArray[Any] | None]
) -> spaces.Box | spaces.Discrete:
    if actions.ndim == 1:
        lowest, highest = int(actions.min()), int(actions.max())
        return spaces.Discrete(highest - lowest + 1, start=lowest)
    low, high = (
        np.full(actions.shape[1], infinite, np.float32)
        if bound is None
        else np.asarray(bound, np.float32).reshape(-1)
        for bound, infinite in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    if low.shape != high.shape or low.shape != actions.shape[1:] or (low > high).any():
        raise DatasetError(
            f"dataset {name}: 'action_low' and 'action_high' do not fit actions of "
            f"{actions.shape[1]} dimensions"
        )
    space: gym.Space[Any] = spaces.Box(low, high, dtype=np.float32)
    return bounded_action_space(name, space, actions)
