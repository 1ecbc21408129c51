"""Writes Minari datasets (HDF5)."""

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray


@dataclass(frozen=True)
class MinariEpisode:
    """One episode of T steps.

    Attributes:
        obs: `[T + 1, *shape]`, that of the reset first.
        actions: `[T, *shape]`.
        rewards: `[T]`.
        terminated: `[T]`, bool.
        truncated: `[T]`, bool.
        seed: That the environment was reset with.
    """

    obs: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    seed: int


def write_minari(
    folder: Path,
    episodes: Iterable[MinariEpisode],
    *,
    dataset_id: str,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    env_spec: EnvSpec | None,
    metadata: Mapping[str, Any],
) -> Path:
    """Write `folder/data` with main_data.hdf5 and metadata.json, one episode at a time.

    Args:
        folder: Of the dataset; exists, and holds no data yet.
        episodes: At least one.
        dataset_id: Minari's id.
        observation_space: Of the environment.
        action_space: Of the environment.
        env_spec: From which Minari can make the environment again.
        metadata: More of them, as JSON can hold them; `algorithm_name` and `description` are
            shown by Minari.

    Returns:
        `folder/data`.

    Raises:
        OSError: If it cannot be written.
    """
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    data = folder.absolute() / "data"  # Minari gets the size of a relative one wrong
    storage = MinariStorage.new(
        data,
        observation_space=observation_space,
        action_space=action_space,
        env_spec=env_spec,
        data_format="hdf5",
    )
    version = importlib.metadata.version("minari")
    storage.update_metadata({**metadata, "dataset_id": dataset_id, "minari_version": version})

    def buffers() -> Iterator[Any]:
        for episode in episodes:
            yield EpisodeBuffer(
                seed=episode.seed,
                observations=episode.obs,
                actions=episode.actions,
                rewards=episode.rewards,
                terminations=episode.terminated,
                truncations=episode.truncated,
                infos={},
            )

    storage.update_episodes(buffers())
    return data


def write_namespaces(root: Path, dataset_id: str) -> None:
    """Mark the folders above a dataset as namespaces, as Minari's own tools expect them."""
    folder = (root / dataset_id).parent
    while folder != root:
        marker = folder / "namespace_metadata.json"
        if not marker.exists():
            marker.write_text("{}", encoding="utf-8")
        folder = folder.parent
