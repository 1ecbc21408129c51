"""Classification as an environment."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mbrl_bilevel.rewards import OneHotReward
from mbrl_envs.one_step import Array, OneStepEnv
from mbrl_envs.tabular_classification.problem import Split, make_classification_problem


class TabularClassificationEnv(OneStepEnv):
    """
    ## Description

    A classifier is a policy, the class that it predicts is the action. The agent sees the features
    of a sample and predicts its class. Benechehab et al., "From Data to Rewards: a Bilevel
    Optimization Perspective on Maximum Likelihood Estimation" (2025), section 4.3: for `U = beta I`
    the policy that maximises the expected reward plus `temperature` times its own entropy is
    `softmax(2 beta q(c|x) / temperature)` of the true class probabilities q.

    The data are split, class by class, into a training, a held-out and a test part; features are
    standardised by the training part. The same `dataset`, `split_seed` and `fractions` give the
    same parts, so that an agent trained on one is evaluated on another:

    ```python
    >>> import gymnasium as gym
    >>> training = gym.make("mbrl_envs:TabularClassification-v0", dataset="wine")
    >>> test = gym.make("mbrl_envs:TabularClassification-v0", dataset="wine", split="test")
    >>> training
    <OrderEnforcing<PassiveEnvChecker<TabularClassificationEnv<TabularClassification-v0>>>>

    ```

    `env.unwrapped` has all samples of its part, `features` `[N, D]` and `labels` `[N]`, and
    `class_names`, `feature_names` and `reward_table` `[C, C]`.

    ## Action Space

    The action is an integer from 0 to C - 1: the predicted class. For wine there are three:

    | Num | Action  |
    |-----|---------|
    | 0   | class_0 |
    | 1   | class_1 |
    | 2   | class_2 |

    ## Observation Space

    The observation is a `ndarray` with shape `(D,)` and dtype `float32`: standardised features, 13
    for wine. The bounds are the integers around the values of the whole dataset, at least -1 and 1.

    ## Rewards

    `-(e_y_hat - e_y)^T U (e_y_hat - e_y)` for the one-hot codes e of the predicted class and of the
    true one: 0 if it is right, otherwise `-(U_ii + U_jj - 2 U_ij)`, which is `-2 beta` for
    `U = beta I`. After the step `info["label"]` is the true class and `info["is_success"]` says
    whether the prediction was right.

    ## Starting State

    A sample is drawn uniformly, with replacement; `reset(options={"row": i})` takes row i.

    ## Episode End

    - Termination: after the first step, always. The last observation are the features again.
    - Truncation: never.

    ## Arguments

    | Argument      | Default           | Meaning                                                  |
    |---------------|-------------------|----------------------------------------------------------|
    | `dataset`     | `"wine"`          | `"wine"`, `"iris"`, `"breast_cancer"` or `"digits"`; a   |
    |               |                   | CSV file; or a name of OpenML, which needs a network     |
    | `split`       | `"training"`      | `"training"`, `"held_out"` or `"test"`                   |
    | `u`           | `1.0`             | beta, a diagonal `[C]`, a matrix `[C, C]`, `"identity"`, |
    |               |                   | `"trace"` (the paper's                                   |
    |               |                   | `beta = temperature C / (2 (1 - sum_c q_c^2))`, with q   |
    |               |                   | the classes' shares in the training part), or a learned  |
    |               |                   | `OneHotReward`                                           |
    | `temperature` | `1.0`             | The weight of the policy's entropy, for `"trace"`        |
    | `split_seed`  | `0`               | Which samples are in which part                          |
    | `fractions`   | `(0.6, 0.2, 0.2)` | Shares of the training, held-out and test part           |
    | `target`      | `None`            | Column with the class; the last one of a CSV file        |
    | `render_mode` | `None`            | `None`; `"ansi"`, the last prediction; or `"rgb_array"`, |
    |               |                   | a confusion matrix of the latest 200                     |

    What cannot be used raises `mbrl_bilevel.errors.ConfigError` or `DatasetError`.

    ## Version History

    * v0: Initial version.
    """

    def __init__(
        self,
        dataset: str | Path = "wine",
        split: Split = "training",
        u: str | ArrayLike | OneHotReward = 1.0,
        temperature: float = 1.0,
        split_seed: int = 0,
        fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
        target: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.problem = make_classification_problem(
            dataset, split, u, temperature, split_seed, fractions, target
        )
        super().__init__(self.problem, render_mode)

    @property
    def features(self) -> NDArray[np.float32]:
        """Standardised features of all samples `[N, D]`."""
        return self.problem.features

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of all samples `[N]`."""
        return self.problem.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names."""
        return self.problem.class_names

    @property
    def feature_names(self) -> tuple[str, ...]:
        """D names."""
        return self.problem.feature_names

    @property
    def reward_table(self) -> NDArray[np.float64]:
        """Reward of predicting each class (rows) where each is true, `[C, C]`."""
        return self.problem.reward_table

    def _describe(self, action: Any, target: Any, reward: float) -> str:
        predicted, true = self.class_names[action], self.class_names[target]
        return f"predicted {predicted}  true class {true}  reward {reward:.4g}\n"

    def _plot(self, figure: Figure, predictions: list[tuple[Any, Any, float]]) -> None:
        counts = np.zeros((len(self.class_names),) * 2, dtype=int)
        for action, target, _ in predictions:
            counts[target, action] += 1
        axes = figure.add_subplot()
        axes.imshow(counts, cmap="Blues", vmin=0)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.text(column, row, str(count), ha="center", va="center", color="C1")
        places = range(len(self.class_names))
        axes.set_xticks(places, self.class_names, rotation=45, ha="right")
        axes.set_yticks(places, self.class_names)
        axes.set(xlabel="predicted", ylabel="true class", title="latest predictions")

    def _draw(self, options: dict[str, Any]) -> tuple[Array, Array]:
        row = options.get("row")
        if row is None:
            return super()._draw(options)
        num_rows = len(self.labels)
        if options.keys() != {"row"} or not 0 <= row < num_rows:
            raise ValueError(f"options={options!r}; allowed: row, from 0 to {num_rows - 1}")
        return self.problem.rows(np.array([row]))
