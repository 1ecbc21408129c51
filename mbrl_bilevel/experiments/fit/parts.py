"""The parts of a dataset that one seed trains and judges on."""

from dataclasses import dataclass

from mbrl_bilevel.config.fit import FitConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.data.datasets import EpisodeDataset, Windows
from mbrl_bilevel.experiments.recorded import some_rows
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
    # They are predicted in one go: those of a million steps would not fit comfortably.
    limit = config.split.max_judged_steps
    return Parts(
        training=dataset.transitions(training),
        held_out=dataset.steps[some_rows(dataset, held_out, limit, seed)],
        test=dataset.steps[some_rows(dataset, test, limit, seed)],
        windows=dataset.windows(test, max(open_loop.ks), open_loop.num_windows),
    )
