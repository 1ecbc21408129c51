"""Reads Minari datasets (HDF5) episode by episode, without making their environment."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_bilevel.data.datasets.arrays import empty_transitions
from mbrl_bilevel.data.datasets.checks import (
    bounded_action_space,
    check_finite,
    check_observation_space,
)
from mbrl_bilevel.data.datasets.dataset import EpisodeDataset
from mbrl_bilevel.data.datasets.locate import METADATA_FILE
from mbrl_bilevel.data.replay_buffer import Transitions
from mbrl_bilevel.errors import DatasetError

DATA_FILE = "main_data.hdf5"
FLAGS = ("rewards", "terminations", "truncations")


def read_minari(folder: Path, memory_limit: int) -> EpisodeDataset:
    """Read the dataset in a folder that holds Minari's metadata.json.

    Raises:
        DatasetError: If it is damaged, unfinished, or of spaces that are not supported.
    """
    metadata = _read_metadata(folder)
    name = str(metadata.get("dataset_id") or folder)
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise DatasetError(
            f"dataset {name} has the format {metadata['data_format']!r}; allowed: 'hdf5'"
        )
    with _open(folder / DATA_FILE) as file:
        lengths = _episode_lengths(name, file, metadata)
        obs_space, action_space = _spaces(name, file, metadata)
        obs_space = check_observation_space(name, obs_space)
        steps = empty_transitions(
            int(lengths.sum()), obs_space.shape[0], _action_shape(name, action_space), memory_limit
        )
        starts = np.cumsum(lengths) - lengths
        for episode, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            where = f"dataset {name}, episode {episode}"
            # What does not fit into float32 is found as infinite.
            with _damage_named(where), np.errstate(over="ignore"):
                group = file[f"episode_{episode}"]
                _read_episode(where, group, steps[start : start + length])
    return EpisodeDataset(
        steps=steps,
        starts=starts,
        name=name,
        observation_space=obs_space,
        action_space=bounded_action_space(name, action_space, steps.actions),
        env_id=_env_id(metadata),
        metadata=metadata,
        memory_limit=memory_limit,
    )


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA_FILE
    try:
        metadata = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not isinstance(metadata, dict):
        raise DatasetError(f"{path} does not hold a JSON object")
    return metadata


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise DatasetError(f"{path} is missing: the dataset is incomplete")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} is damaged or no HDF5 file: {error}") from error
    with file:
        yield file


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """Turn what h5py raises at damaged parts of a file into an error that says where."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{where} cannot be read, the file is damaged: {error}") from error


def _episode_lengths(name: str, file: h5py.File, metadata: dict[str, Any]) -> NDArray[np.int64]:
    """Return the steps of each episode, from the shapes of its arrays, which must agree."""
    with _damage_named(f"dataset {name}"):
        num_stored = sum(key.startswith("episode_") for key in file)
    claimed = metadata.get("total_episodes")
    if not claimed or claimed != num_stored:
        raise DatasetError(
            f"dataset {name} is unfinished: its metadata counts {claimed or 0} episodes, its file "
            f"has {num_stored}"
        )
    lengths = [_episode_length(name, file, episode) for episode in range(num_stored)]
    total = metadata.get("total_steps", sum(lengths))
    if total != sum(lengths):
        raise DatasetError(
            f"dataset {name} is unfinished: its metadata counts {total} steps, its file has "
            f"{sum(lengths)}"
        )
    return np.array(lengths, dtype=np.int64)


def _episode_length(name: str, file: h5py.File, episode: int) -> int:
    where = f"dataset {name}, episode {episode}"
    with _damage_named(where):
        group = file[f"episode_{episode}"]
        for key in ("observations", "actions"):
            if not isinstance(group[key], h5py.Dataset):
                raise DatasetError(
                    f"{where}: {key} are a {_kind(group[key])} of arrays; allowed: "
                    "one array (Box, or Discrete actions)"
                )
        counts = {key: len(group[key]) for key in ("observations", "actions", *FLAGS)}
    length = counts["rewards"]
    expected = {key: length + (key == "observations") for key in counts}
    if counts != expected or length == 0:
        found = ", ".join(f"{count} {key}" for key, count in counts.items())
        raise DatasetError(
            f"{where}: lengths disagree: {found}; allowed: T >= 1 of each, T + 1 observations"
        )
    return length


def _kind(group: Any) -> str:
    return "tuple" if "_index_0" in group else "dictionary"


def _spaces(
    name: str, file: h5py.File, metadata: dict[str, Any]
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Return observation and action space; from the data where the metadata have none."""
    from minari.serialization import deserialize_space

    found: list[gym.Space[Any]] = []
    for key, array in (("observation_space", "observations"), ("action_space", "actions")):
        if key in metadata:
            try:
                found.append(deserialize_space(metadata[key]))
            except Exception as error:  # whatever a damaged or newer description leads to
                raise DatasetError(f"dataset {name}: {key} cannot be read: {error}") from error
        else:
            with _damage_named(f"dataset {name}, episode 0"):
                data = file["episode_0"][array]
                found.append(spaces.Box(-np.inf, np.inf, data.shape[1:], np.dtype(data.dtype)))
    return found[0], found[1]


def _action_shape(name: str, space: gym.Space[Any]) -> tuple[int, ...]:
    if isinstance(space, spaces.Discrete):
        return ()
    if not isinstance(space, spaces.Box):
        raise DatasetError(
            f"dataset {name}: action space {space} is not supported; allowed: Box, Discrete"
        )
    return (int(np.prod(space.shape)),)


def _read_episode(where: str, group: h5py.Group, steps: Transitions) -> None:
    """Fill in the transitions of one episode."""
    # Minari stores the observation of the reset, too: one more than there are steps.
    obs = np.asarray(group["observations"][()], dtype=np.float32)
    if obs.shape[1:] != steps.obs.shape[1:]:
        raise DatasetError(
            f"{where}: observations have the shape {obs.shape[1:]}, the space {steps.obs.shape[1:]}"
        )
    steps.obs[:], steps.next_obs[:] = obs[:-1], obs[1:]
    steps.actions[:] = np.asarray(group["actions"][()]).reshape(steps.actions.shape)
    steps.rewards[:] = group["rewards"][()]
    steps.terminated[:] = group["terminations"][()]
    steps.truncated[:] = group["truncations"][()]
    check_finite(where, "observation", obs)
    check_finite(where, "action", steps.actions)
    check_finite(where, "reward", steps.rewards)


def _env_id(metadata: dict[str, Any]) -> str | None:
    if isinstance(metadata.get("env_id"), str):  # ours; it names the module to import, too
        return str(metadata["env_id"])
    try:
        spec = json.loads(metadata.get("env_spec") or "null")
    except ValueError:
        return None
    return str(spec["id"]) if isinstance(spec, dict) and "id" in spec else None
