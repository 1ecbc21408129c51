"""TabularClassification-v0: its samples are the dataset's, its rewards the one-hot ones."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from mbrl_bilevel.data.tabular import BUILT_IN, load_tabular, split_tabular
from mbrl_bilevel.errors import ConfigError, DatasetError
from mbrl_bilevel.rewards import OneHotReward
from mbrl_envs.tabular_classification import TabularClassificationEnv

PARTS: list[Any] = ["training", "held_out", "test"]


@pytest.mark.parametrize("dataset", BUILT_IN)
def test_samples_are_those_of_the_split(dataset: str) -> None:
    table = load_tabular(dataset)
    splits = split_tabular(table, (0.5, 0.3, 0.2), seed=4)
    for part in PARTS:
        env = TabularClassificationEnv(dataset, split=part, split_seed=4, fractions=(0.5, 0.3, 0.2))
        features, labels = getattr(splits, part)
        np.testing.assert_array_equal(env.features, features.numpy())
        np.testing.assert_array_equal(env.labels, labels.numpy())
        assert env.action_space == gym.spaces.Discrete(table.num_classes)
        assert (env.class_names, env.feature_names) == (table.class_names, table.feature_names)
        for row in (0, len(labels) - 1):
            obs, _ = env.reset(options={"row": row})
            np.testing.assert_array_equal(obs, features[row].numpy())
            assert env.step(0)[4]["label"] == labels[row]


@pytest.mark.parametrize("dataset", BUILT_IN)
def test_all_parts_lie_in_the_same_space(dataset: str) -> None:
    envs = [TabularClassificationEnv(dataset, split=part) for part in PARTS]
    for env in envs:
        assert env.observation_space == envs[0].observation_space
        assert env.observation_space.is_bounded()
        assert all(row in env.observation_space for row in env.features)


@pytest.mark.parametrize(
    ("u", "matrix"),
    [
        (1.5, 1.5 * np.eye(3)),
        ([1.0, 2.0, 4.0], np.diag([1.0, 2.0, 4.0])),
        ([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 3.0]], None),
        ("identity", np.eye(3)),
    ],
)
def test_rewards_of_all_pairs(u: Any, matrix: Any) -> None:
    matrix = np.asarray(u) if matrix is None else matrix
    env = TabularClassificationEnv("wine", u=u)
    codes = np.eye(3)
    seen = set()
    for row in range(len(env.labels)):
        for action in range(3):
            env.reset(options={"row": row})
            _, reward, _, _, info = env.step(action)
            label = info["label"]
            error = codes[action] - codes[label]
            assert reward == pytest.approx(-error @ matrix @ error, abs=1e-12)
            assert info["is_success"] is (action == label)
            seen.add((action, label))
    assert len(seen) == 9


def test_the_papers_beta() -> None:
    env = TabularClassificationEnv("wine", u="trace", temperature=0.4)
    shares = np.bincount(env.labels) / len(env.labels)
    beta = 0.4 * 3 / (2 * (1 - np.sum(shares**2)))
    np.testing.assert_allclose(env.reward_table, -2 * beta * (1 - np.eye(3)), rtol=1e-6)


def test_a_learned_reward_is_taken_as_it_is() -> None:
    reward = OneHotReward(3, "full", torch.tensor([[2.0, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 3]]))
    table = reward.table().detach().numpy().copy()
    env = TabularClassificationEnv("iris", u=reward)
    with torch.no_grad():
        reward.metric.log_root.add_(1.0)
    np.testing.assert_allclose(env.reward_table, table)


def test_samples_are_drawn_uniformly() -> None:
    env = TabularClassificationEnv("iris", fractions=(0.1, 0.1, 0.8))
    num = 3_000
    features, _ = env.problem.sample(np.random.default_rng(0), num)
    rows = {tuple(row): 0 for row in env.features.tolist()}
    for row in features.tolist():
        rows[tuple(row)] += 1
    assert len(rows) == len(env.labels) == 15
    assert all(abs(count - num / 15) < 5 * np.sqrt(num / 15) for count in rows.values())


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = [f"{i % 2},{i},{i * i}" for i in range(20)]
    path.write_text("\n".join(["kind,a,b", *rows]))
    env: Any = gym.make(
        "mbrl_envs:TabularClassification-v0", dataset=str(path), target="kind", split="test"
    ).unwrapped
    assert env.class_names == ("0", "1")
    assert env.feature_names == ("a", "b")
    assert env.features.shape == (4, 2)


@pytest.mark.parametrize("options", [{"row": 107}, {"row": -1}, {"row": 0, "x": 1}, {"column": 1}])
def test_options_that_there_are_not(options: dict[str, Any]) -> None:
    env = TabularClassificationEnv("wine")
    assert len(env.labels) == 107
    with pytest.raises(ValueError, match="allowed: "):
        env.reset(options=options)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"split": "train"}, ConfigError, "split='train'; allowed: training, held_out, test"),
        ({"temperature": -1.0}, ConfigError, "temperature=-1.0; it must be positive"),
        ({"u": "optimal"}, ConfigError, "u='optimal'; allowed: identity, trace, a number"),
        ({"u": [1.0]}, ConfigError, "a diagonal of 1 numbers; it must have 3"),
        ({"u": OneHotReward(2)}, ConfigError, "a reward of 2 classes; this data has 3"),
        (
            {"split": "test", "fractions": (0.5, 0.5, 0.0)},
            ConfigError,
            "the part of split='test' is empty",
        ),
        ({"fractions": (0.5, 0.1, 0.1)}, ConfigError, "sum to 1"),
        ({"dataset": __file__}, DatasetError, "damaged|cells|numbers"),
    ],
)
def test_impossible_arguments(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TabularClassificationEnv(**kwargs)
