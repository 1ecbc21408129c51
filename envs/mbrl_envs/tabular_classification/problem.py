"""Predicting the class of a sample, paid by a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from mbrl_bilevel.data.tabular import TabularSplits, load_tabular, split_tabular
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards import OneHotReward
from mbrl_envs.one_step import Array, check_temperature, constant_u, trace_u

SPLITS = ("training", "held_out", "test")
Split = Literal["training", "held_out", "test"]
RULES = ("identity", "trace")


@dataclass(frozen=True)
class ClassificationProblem:
    """A `OneStepProblem`: `reward = -(e_y_hat - e_y)^T U (e_y_hat - e_y)`, with one-hot codes e.

    Attributes:
        features: Of the samples that are drawn, standardised, `[N, D]`, float32.
        labels: Their classes `[N]`.
        reward_table: Reward of predicting each class (rows) where each is true, `[C, C]`.
        observation_space: Of features.
        action_space: The C classes.
        class_names: C of them.
        feature_names: D of them.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    reward_table: NDArray[np.float64]
    observation_space: spaces.Box
    action_space: spaces.Discrete
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]

    def sample(self, rng: np.random.Generator, num: int) -> tuple[Array, Array]:
        return self.rows(rng.integers(len(self.labels), size=num))

    def rows(self, indices: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return the features `[n, D]` and classes `[n]` of rows `[n]`."""
        return self.features[indices], self.labels[indices]

    def check_actions(self, actions: Array) -> Array:
        num_classes = int(self.action_space.n)
        if actions.ndim != 1 or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(
                f"actions of shape {list(actions.shape[1:])} and type {actions.dtype}; they must "
                "be integers"
            )
        if ((actions < 0) | (actions >= num_classes)).any():
            wrong = actions[(actions < 0) | (actions >= num_classes)][0]
            raise ValueError(f"action {wrong}; it must be a class from 0 to {num_classes - 1}")
        return actions

    def reward(self, actions: Array, targets: Array, obs: Array) -> NDArray[np.float64]:
        del obs
        return self.reward_table[actions, targets]

    def infos(self, actions: Array, targets: Array) -> dict[str, Array]:
        return {"label": targets.copy(), "is_success": actions == targets}


def make_classification_problem(
    dataset: str | Path,
    split: str,
    u: str | ArrayLike | OneHotReward,
    temperature: float,
    split_seed: int,
    fractions: tuple[float, float, float],
    target: str | None,
) -> ClassificationProblem:
    """Return the problem; the arguments are those of `TabularClassificationEnv`."""
    if split not in SPLITS:
        raise ConfigError(f"split={split!r}; allowed: {', '.join(SPLITS)}")
    check_temperature(temperature)
    table = load_tabular(dataset, target)
    splits = split_tabular(table, fractions, split_seed)
    features, labels = getattr(splits, split)
    if not len(labels):
        raise ConfigError(f"fractions={fractions}: the part of split={split!r} is empty")
    return ClassificationProblem(
        features.numpy(),
        labels.numpy(),
        _reward_table(u, splits, temperature),
        _observation_space(splits),
        spaces.Discrete(splits.num_classes),
        table.class_names,
        table.feature_names,
    )


def _reward_table(
    u: str | ArrayLike | OneHotReward, splits: TabularSplits, temperature: float
) -> NDArray[np.float64]:
    size = splits.num_classes
    if isinstance(u, OneHotReward):
        if u.num_classes != size:
            raise ConfigError(f"u is a reward of {u.num_classes} classes; this data has {size}")
        reward = u
    else:
        if isinstance(u, str):
            matrix = _by_rule(u, splits, temperature)
        else:
            matrix = constant_u(u, size, RULES)
        reward = OneHotReward(size, "full", torch.from_numpy(matrix))
    table: NDArray[np.float64] = reward.table().detach().double().numpy().copy()
    return table


def _by_rule(rule: str, splits: TabularSplits, temperature: float) -> NDArray[Any]:
    if rule == "identity":
        return np.eye(splits.num_classes)
    if rule == "trace":
        codes = np.eye(splits.num_classes)[splits.training[1].numpy()]
        return trace_u(np.cov(codes.T, bias=True), temperature)
    raise ConfigError(
        f"u={rule!r}; allowed: {', '.join(RULES)}, a number, a diagonal, a matrix, or a reward"
    )


def _observation_space(splits: TabularSplits) -> spaces.Box:
    """The integers around all three parts, so that a policy of one can be tried on another."""
    features = torch.cat([splits.training[0], splits.held_out[0], splits.test[0]])
    low = features.amin(dim=0).floor().clamp(max=-1.0)
    high = features.amax(dim=0).ceil().clamp(min=1.0)
    return spaces.Box(low.numpy(), high.numpy(), dtype=np.float32)
