"""Classification, many samples at once."""

from pathlib import Path

from numpy.typing import ArrayLike

from mbrl_bilevel.rewards import OneHotReward
from mbrl_envs.one_step import OneStepVectorEnv
from mbrl_envs.tabular_classification.problem import Split, make_classification_problem


class TabularClassificationVectorEnv(OneStepVectorEnv):
    """N of `TabularClassificationEnv`, whose arguments it takes, in one batch."""

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str | Path = "wine",
        split: Split = "training",
        u: str | ArrayLike | OneHotReward = 1.0,
        temperature: float = 1.0,
        split_seed: int = 0,
        fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
        target: str | None = None,
    ) -> None:
        self.problem = make_classification_problem(
            dataset, split, u, temperature, split_seed, fractions, target
        )
        super().__init__(self.problem, num_envs)
