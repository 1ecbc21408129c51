"""Loads recorded episodes, whatever their format."""

from pathlib import Path

from mbrl_bilevel.config import DatasetConfig
from mbrl_bilevel.data.datasets.arrays import DEFAULT_MEMORY_LIMIT
from mbrl_bilevel.data.datasets.dataset import EpisodeDataset
from mbrl_bilevel.data.datasets.locate import find_dataset
from mbrl_bilevel.data.datasets.minari_reader import read_minari
from mbrl_bilevel.data.datasets.npz_reader import read_npz

MEGABYTE = 2**20


def open_dataset(config: DatasetConfig) -> EpisodeDataset:
    """Read the dataset that settings name; raises what `load_episodes` does."""
    memory_limit = config.memory_mb * MEGABYTE
    return load_episodes(config.path, download=config.download, memory_limit=memory_limit)


def load_episodes(
    path_or_id: str | Path, *, download: bool = False, memory_limit: int = DEFAULT_MEMORY_LIMIT
) -> EpisodeDataset:
    """Read a dataset; its environment is not needed.

    Args:
        path_or_id: The id of a Minari dataset, its folder, or a .npz file (`npz_reader` says what
            it must hold). A folder goes before an id.
        download: Ask Minari's server for an id that is not here.
        memory_limit: Bytes of transitions that may lie in memory; more are mapped from a
            temporary file.

    Raises:
        ConfigError: If there is no such dataset.
        DatasetError: If it is damaged, unfinished, holds nan, or has spaces that are not supported.
    """
    path = find_dataset(path_or_id, download=download)
    reader = read_npz if path.suffix == ".npz" else read_minari
    return reader(path, memory_limit)
