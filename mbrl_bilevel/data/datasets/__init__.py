"""Recorded episodes on disk: Minari datasets and NPZ files."""

from mbrl_bilevel.data.datasets.dataset import EpisodeDataset, Windows
from mbrl_bilevel.data.datasets.load import load_episodes, open_dataset
from mbrl_bilevel.data.datasets.locate import (
    datasets_root,
    local_dataset_ids,
    unfinished_path,
)
from mbrl_bilevel.data.datasets.minari_writer import (
    MinariEpisode,
    write_minari,
    write_namespaces,
)

__all__ = [
    "EpisodeDataset",
    "MinariEpisode",
    "Windows",
    "datasets_root",
    "load_episodes",
    "local_dataset_ids",
    "open_dataset",
    "unfinished_path",
    "write_minari",
    "write_namespaces",
]
