"""Small datasets on disk whose every number is known."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.data.datasets import MinariEpisode, write_minari

OBS_SPACE = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
ACTION_SPACE = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)


def episode(number: int, length: int) -> MinariEpisode:
    """Step t of episode e has obs (e, t), action t / 10 and reward e + t; odd ones terminate."""
    steps = np.arange(length)
    is_last = steps == length - 1
    return MinariEpisode(
        obs=np.stack([np.full(length + 1, float(number)), np.arange(length + 1.0)], axis=1),
        actions=(steps / 10)[:, None].astype(np.float32),
        rewards=number + steps.astype(np.float64),
        terminated=is_last & bool(number % 2),
        truncated=is_last & (not number % 2),
        seed=100 + number,
    )


def write_dataset(
    root: Path,
    lengths: tuple[int, ...] = (3, 5, 2, 4),
    dataset_id: str = "toys/line-v0",
    **spaces: Any,
) -> Path:
    """Write episodes of these lengths; return the dataset's folder."""
    folder = root / dataset_id
    folder.mkdir(parents=True)
    write_minari(
        folder,
        (episode(number, length) for number, length in enumerate(lengths)),
        dataset_id=dataset_id,
        observation_space=spaces.get("observation_space", OBS_SPACE),
        action_space=spaces.get("action_space", ACTION_SPACE),
        env_spec=spaces.get("env_spec"),
        metadata={"algorithm_name": "ruler", "description": "a line"},
    )
    return folder


def edit(folder: Path, key: str, values: NDArray[Any] | None) -> None:
    """Replace an array of the HDF5 file, `episode_1/rewards` for one, or remove it."""
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        del file[key]
        if values is not None:
            file[key] = values


def npz_arrays(lengths: tuple[int, ...] = (3, 5, 2, 4)) -> dict[str, NDArray[Any]]:
    """The same episodes under the keys of an NPZ file."""
    episodes = [episode(number, length) for number, length in enumerate(lengths)]
    return {
        "obs": np.concatenate([e.obs[:-1] for e in episodes]),
        "action": np.concatenate([e.actions for e in episodes]),
        "reward": np.concatenate([e.rewards for e in episodes]),
        "next_obs": np.concatenate([e.obs[1:] for e in episodes]),
        "terminated": np.concatenate([e.terminated for e in episodes]),
        "truncated": np.concatenate([e.truncated for e in episodes]),
    }
