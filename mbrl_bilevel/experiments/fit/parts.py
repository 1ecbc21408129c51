"""The parts of a dataset that one seed trains and judges on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.config.fit import FitConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.data.datasets import EpisodeDataset, Windows
from mbrl_bilevel.runs import derive_seed


@dataclass(frozen=True)
class Parts:
    """Transitions of different episodes, and windows of the test episodes.

    Attributes:
        training: Of the inner problem.
        held_out: Of the outer problem.
        test: Judged on.
        windows: To predict along, `max(ks)` steps.
    """

    training: Transitions
    held_out: Transitions
    test: Transitions
    windows: Windows


def deal_out(dataset: EpisodeDataset, config: FitConfig, seed: int) -> Parts:
    """Split a dataset by episode, as the seed says.

    Raises:
        DatasetError: There are fewer than three episodes.
    """
    fractions = config.split.fractions
    training, held_out, test = dataset.split(fractions, derive_seed(seed, "split"))
    open_loop = config.open_loop
    return Parts(
        training=dataset.transitions(training),
        held_out=_some_steps(dataset, held_out, config.split.max_judged_steps, seed),
        test=_some_steps(dataset, test, config.split.max_judged_steps, seed),
        windows=dataset.windows(test, max(open_loop.ks), open_loop.num_windows),
    )


def _some_steps(
    dataset: EpisodeDataset, episodes: NDArray[np.int64], max_steps: int, seed: int
) -> Transitions:
    """All transitions of episodes, or as many as are allowed, drawn at random.

    They are predicted in one go: those of a million steps would not fit comfortably.
    """
    rows = dataset.rows(episodes)
    if len(rows) > max_steps:
        rng = np.random.default_rng(derive_seed(seed, "judged steps"))
        rows = np.sort(rng.choice(rows, max_steps, replace=False))
    return dataset.steps[rows]
