"""Bootstrap batches: every ensemble member trains on a resampling of the data of its own."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


class BootstrapBatches:
    """Endless batches of row indices, `[E, B]`, over the bootstrap samples of E members.

    How often member e sees row i is Poisson(1), the online form of the bootstrap: the counts of
    the first rows do not change as rows are added, so members stay different over warm-started
    fits instead of all converging to the full data.

    Args:
        num_rows: Rows N of the training data.
        ensemble_size: E; a single member sees every row exactly once an epoch.
        batch_size: B, at most the rows of the smallest sample.
        seed: Of the Poisson counts; the same in every fit of a model.
        generator: Shuffles the epochs.
    """

    def __init__(
        self,
        num_rows: int,
        ensemble_size: int,
        batch_size: int,
        seed: int,
        generator: torch.Generator,
    ) -> None:
        self._samples = [_sample(num_rows, e, ensemble_size, seed) for e in range(ensemble_size)]
        self._batch_size = min(batch_size, min(len(sample) for sample in self._samples))
        self._generator = generator

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            epoch = [s[torch.randperm(len(s), generator=self._generator)] for s in self._samples]
            shortest = min(len(sample) for sample in epoch)
            for start in range(0, shortest - self._batch_size + 1, self._batch_size):
                yield torch.stack([s[start : start + self._batch_size] for s in epoch])


def _sample(num_rows: int, member: int, ensemble_size: int, seed: int) -> Tensor:
    if ensemble_size == 1:
        return torch.arange(num_rows)
    counts = np.random.default_rng([seed, member]).poisson(1.0, size=num_rows)
    if counts.sum() == 0:  # only with a handful of rows
        counts = np.ones(num_rows, dtype=np.int64)
    return torch.from_numpy(np.repeat(np.arange(num_rows), counts))
