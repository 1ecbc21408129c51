"""The folder that a dataset grows in, until it is complete and takes its place.

`.<name>.unfinished/` beside where the dataset will be:

    collection.json      what is being recorded; only the same can go on
    policy.zip           of Stable-Baselines3, if it was trained for this
    episodes/000000.npz  one file an episode, written beside and renamed
"""

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_bilevel.data.datasets import MinariEpisode, unfinished_path
from mbrl_bilevel.errors import ConfigError, DatasetError, MBRLError
from mbrl_bilevel.evaluation.files import replacing
from mbrl_bilevel.runs.files import os_reason, sync_file, sync_folder, write_json_atomic

_FIELDS = ("obs", "actions", "rewards", "terminated", "truncated", "seed")


class UnfinishedDataset:
    """Episodes on the way to a dataset.

    Args:
        dataset: The folder that the dataset will have.
    """

    def __init__(self, dataset: Path) -> None:
        self.dataset = dataset
        self.path = unfinished_path(dataset)
        self.policy_path = self.path / "policy.zip"
        self._record_path = self.path / "collection.json"
        self._episodes = self.path / "episodes"

    @property
    def num_episodes(self) -> int:
        """Episodes that are recorded, without a gap."""
        count = 0
        while self._episode_path(count).is_file():
            count += 1
        return count

    def check(self, record: Mapping[str, Any]) -> None:
        """Raise a ConfigError if another collection, or the complete dataset, is there already."""
        if self.dataset.exists():
            raise ConfigError(
                f"dataset.id: {self.dataset} exists already; name another id, such as the next "
                "version, or remove it"
            )
        if not self._record_path.is_file():
            return
        try:
            there = json.loads(self._record_path.read_bytes())
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self._record_path} cannot be read: {error}") from error
        wanted = json.loads(json.dumps(record))
        differences = [
            f"{key} was {before!r}, is {now!r}" for key, before, now in _differences(there, wanted)
        ]
        if differences:
            raise ConfigError(
                f"{self.path} is an unfinished collection with other settings "
                f"({'; '.join(differences)}); go on with those, or remove it"
            )

    def create(self, record: Mapping[str, Any]) -> None:
        """Make the folder, unless it is there.

        Raises:
            MBRLError: If it cannot be written.
        """
        try:
            self._episodes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MBRLError(f"cannot make the folder {self.path}: {os_reason(error)}") from error
        if not self._record_path.is_file():
            write_json_atomic(self._record_path, record)

    def save_episode(self, index: int, episode: MinariEpisode) -> None:
        """Write an episode, completely or not at all.

        Raises:
            MBRLError: If it cannot be written.
        """
        path = self._episode_path(index)
        try:
            with replacing(path) as temporary:
                np.savez(temporary, **{name: getattr(episode, name) for name in _FIELDS})
                sync_file(temporary)
        except OSError as error:
            raise MBRLError(f"cannot write {path}: {os_reason(error)}") from error

    def episodes(self, num_episodes: int) -> Iterator[MinariEpisode]:
        """Yield the first episodes, in order.

        Raises:
            DatasetError: If one is damaged.
        """
        for index in range(num_episodes):
            path = self._episode_path(index)
            try:
                with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in _FIELDS}
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise DatasetError(
                    f"{path} is damaged ({error}); without it, the collection goes on from there"
                ) from error
            yield MinariEpisode(**{**arrays, "seed": int(arrays["seed"])})

    def draft(self) -> Path:
        """Return an empty folder to write the dataset to.

        Raises:
            OSError: If it cannot be made.
        """
        folder = self.path / "dataset"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def finish(self, draft: Path) -> None:
        """Put the complete dataset into its place, and remove what it was made from.

        Raises:
            OSError: If it cannot be moved there.
        """
        if self.policy_path.is_file():
            shutil.copy(self.policy_path, draft / self.policy_path.name)
        for file in draft.rglob("*"):
            if file.is_dir():
                sync_folder(file)
            else:
                sync_file(file)
        draft.rename(self.dataset)
        sync_folder(self.dataset.parent)
        shutil.rmtree(self.path, ignore_errors=True)

    def _episode_path(self, index: int) -> Path:
        return self._episodes / f"{index:06d}.npz"


def _differences(there: Any, wanted: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted keys at which two nested values differ, with both values."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in sorted({*there, *wanted}):
            inner = f"{key}.{name}" if key else name
            yield from _differences(there.get(name), wanted.get(name), inner)
    elif there != wanted:
        yield key, there, wanted
