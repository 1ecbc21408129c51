"""Which recorded transitions an experiment takes."""

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.data.datasets import EpisodeDataset
from mbrl_bilevel.runs import derive_seed


def some_rows(
    dataset: EpisodeDataset, episodes: NDArray[np.int64], max_rows: int | None, seed: int
) -> NDArray[np.int64]:
    """Return all rows of episodes, or as many as are allowed, drawn at random by the seed."""
    rows = dataset.rows(episodes)
    if max_rows is None or len(rows) <= max_rows:
        return rows
    rng = np.random.default_rng(derive_seed(seed, "judged steps"))
    return np.sort(rng.choice(rows, max_rows, replace=False))
