"""Rewards and estimators from their settings."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import yaml

from mbrl_bilevel.config import (
    ESTIMATOR_CONFIGS,
    REWARD_CONFIGS,
    AnalyticConfig,
    DiceConfig,
    EmbeddingConfig,
    EstimatorConfig,
    MahalanobisConfig,
    NeuralConfig,
    OneHotConfig,
    RewardConfig,
    StateDependentConfig,
    StrictConfig,
    describe_fields,
    to_yaml,
    validate,
)
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators import (
    BASELINES,
    ESTIMATORS,
    Analytic,
    Dice,
    Estimator,
    Reparameterised,
    ScoreFunction,
    make_estimator,
)
from mbrl_bilevel.rewards import (
    EmbeddingReward,
    MahalanobisReward,
    NeuralReward,
    OneHotReward,
    QuadraticReward,
    Reward,
    StateDependentReward,
    make_reward,
)


class Config(StrictConfig):
    reward: RewardConfig = MahalanobisConfig()
    estimator: EstimatorConfig = AnalyticConfig()


def reward_of(settings: str | Mapping[str, Any], size: int = 2, seed: int = 0) -> Reward:
    return make_reward(validate(Config, {"reward": settings}).reward, size, 3, seed)


def estimator_of(settings: str | Mapping[str, Any], seed: int = 0) -> Estimator:
    return make_estimator(validate(Config, {"estimator": settings}).estimator, seed)


def test_the_defaults() -> None:
    config = validate(Config, {})
    assert config == Config(reward=MahalanobisConfig(), estimator=AnalyticConfig())
    assert validate(Config, {"reward": {}, "estimator": {}}) == config
    assert validate(Config, {"reward": {"structure": "full"}}).reward.name == "mahalanobis"


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("mahalanobis", MahalanobisReward),
        ("state_dependent", StateDependentReward),
        ("neural", NeuralReward),
        ("embedding", EmbeddingReward),
        ("one_hot", OneHotReward),
    ],
)
def test_a_reward_by_name(name: str, cls: type[Reward]) -> None:
    reward = reward_of(name)
    assert type(reward) is cls
    assert reward.outer_params().keys() == dict(reward.named_parameters()).keys()
    assert reward_of({"name": name, "learned": False}).outer_params() == {}


def test_the_names_are_those_of_the_classes() -> None:
    assert ESTIMATOR_CONFIGS.keys() == ESTIMATORS.keys()
    assert all(REWARD_CONFIGS[name]().name == name for name in REWARD_CONFIGS)  # type: ignore[attr-defined]


U = [[2.0, 0.5], [0.5, 1.0]]


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "mahalanobis", "structure": "full", "initial": U},
        {"name": "state_dependent", "structure": "full", "initial": U, "hidden_sizes": [4]},
        {"name": "embedding", "structure": "full", "initial": U, "hidden_sizes": [4, 5]},
        {"name": "one_hot", "structure": "full", "initial": U},
    ],
)
def test_a_matrix_to_start_with(settings: dict[str, Any]) -> None:
    reward = reward_of(settings)
    metric = reward if isinstance(reward, QuadraticReward) else reward.metric
    assert isinstance(metric, QuadraticReward)
    torch.testing.assert_close(
        metric.precision(torch.zeros(1, 3)).matrix().squeeze(0), torch.tensor(U)
    )


def test_every_other_setting_arrives() -> None:
    state = reward_of({"name": "state_dependent", "hidden_sizes": [4, 5], "initial": 3})
    assert isinstance(state, StateDependentReward)
    widths = [layer.out_features for layer in state.network if hasattr(layer, "out_features")]
    assert widths == [4, 5, 2]
    torch.testing.assert_close(state.precision(torch.ones(3)).matrix(), 3 * torch.eye(2))
    neural = reward_of({"name": "neural", "hidden_sizes": [7], "initial": 0.5})
    assert isinstance(neural, NeuralReward)
    assert neural.network[0].weight.shape == (7, 5)  # of the error and the input
    reward = neural(torch.ones(2), torch.zeros(2), torch.zeros(3))
    assert reward.item() == pytest.approx(-1.0)
    scalar = reward_of({"structure": "scalar", "initial": 0.5}, size=4)
    assert scalar.outer_params()["log_u"].shape == (1,)
    classes = reward_of({"name": "one_hot", "initial": 0.5}, size=4)
    assert classes(torch.tensor(0), torch.tensor(3)).item() == pytest.approx(-1.0)


def test_the_seed_of_a_rewards_network() -> None:
    first, same, other = (
        reward_of("neural", seed=seed).get_parameter("network.0.weight") for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_an_estimator_by_name_or_by_its_settings() -> None:
    assert isinstance(estimator_of("analytic"), Analytic)
    reparameterised = estimator_of({"name": "reparameterised", "num_samples": 1}, seed=4)
    assert isinstance(reparameterised, Reparameterised)
    assert (reparameterised.num_samples, reparameterised.seed) == (1, 4)
    dice = estimator_of({"name": "dice", "num_samples": 5}, seed=4)
    assert isinstance(dice, Dice)
    assert (dice.num_samples, dice.seed) == (5, 4)
    settings = {"name": "score_function", "num_samples": 3, "clip": 0.2}
    for baseline in BASELINES:
        estimator = estimator_of(settings | {"baseline": baseline}, seed=4)
        assert isinstance(estimator, ScoreFunction)
        assert (estimator.num_samples, estimator.seed) == (3, 4)
        assert (estimator.baseline, estimator.clip) == (baseline, 0.2)
    assert estimator_of({"name": "score_function", "num_samples": 1, "baseline": "none"})


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("reward", "mahalanobi", r"'reward\.name': 'mahalanobi', did you mean 'mahalanobis'\?"),
        ("reward", {"structur": "full"}, r"did you mean 'reward\.structure'\?; allowed in 'rew"),
        (
            "reward",
            {"name": "neural", "structure": "full"},
            r"'reward\.structure' \(value 'full'\)",
        ),
        ("reward", {"structure": "banded"}, "'scalar', 'diagonal' or 'full'"),
        ("reward", {"name": "state_dependent", "structure": "scalar"}, "'diagonal' or 'full'"),
        ("reward", {"name": "neural", "hidden_sizes": []}, r"'reward\.hidden_sizes': \[\]; .*1"),
        ("reward", {"name": "neural", "hidden_sizes": [0]}, r"hidden_sizes\.0': 0; .*equal to 1"),
        ("reward", {"name": "neural", "initial": U}, r"'reward\.initial': .*valid number"),
        ("reward", {"learned": 1}, r"'reward\.learned': 1; .*boolean"),
        ("reward", {"initial": 0}, r"'reward\.initial': 0; .*greater than 0"),
        ("reward", {"initial": "one"}, r"'reward\.initial': 'one'; .*valid number"),
        ("reward", {"initial": []}, r"'reward\.initial': \[\]; .*at least 1 item"),
        ("reward", {"initial": [1.0]}, r"'reward\.initial\.0': 1\.0; .*valid list"),
        ("reward", {"initial": [[1.0, 0.0], [0.0]]}, "2 rows of lengths 2, 1; .* must be square"),
        ("reward", {"initial": [[1.0, 2.0, 3.0]]}, "1 rows of lengths 3; .* must be square"),
        ("reward", {"initial": [[1.0, "a"], [0.0, 1.0]]}, r"initial\.0\.1': 'a'; .*valid number"),
        ("reward", {"initial": [[float("nan")]]}, r"initial\.0\.0': nan; .*finite"),
        ("estimator", "dic", r"'estimator\.name': 'dic', did you mean 'dice'\?; allowed: anal"),
        ("estimator", {"name": "analytic", "num_samples": 3}, "a setting of reparameterised and"),
        ("estimator", {"name": "reparameterised", "num_samples": 0}, "num_samples': 0; .*to 1"),
        ("estimator", {"name": "dice", "num_samples": 1}, "num_samples': 1; .*equal to 2"),
        ("estimator", {"name": "score_function", "baseline": "median"}, "'none', 'mean', 'leave_"),
        ("estimator", {"name": "score_function", "clip": 1.0}, r"clip': 1\.0; .*less than 1"),
        (
            "estimator",
            {"name": "score_function", "num_samples": 1},
            "'leave_one_out' needs num_samples of at least 2",
        ),
    ],
)
def test_what_is_refused(section: str, settings: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        validate(Config, {section: settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial": [[1.0]]}, r"U has shape \[1, 1\]; it must be \[2, 2\]"),
        ({"initial": U}, "a diagonal U cannot hold entries off the diagonal; use 'full'"),
        (
            {"initial": [[1.0, 2.0], [2.0, 1.0]], "structure": "full"},
            "definite: .* -1;",
        ),
        ({"initial": [[1.0, 0.5], [0.0, 1.0]], "structure": "full"}, "not symmetric"),
        ({"initial": [[1.0, 0.0], [0.0, 2.0]], "structure": "scalar"}, "one number on its diag"),
        ({"initial": 1e-60}, r"u=1e-60; it must be positive"),
    ],
)
def test_a_matrix_that_does_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^reward 'mahalanobis': .*{message}"):
        reward_of(settings)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"^reward 'state_dependent': layer sizes \[0, 64"):
        make_reward(StateDependentConfig(), 2, 0)
    with pytest.raises(ConfigError, match=r"^reward 'one_hot': num_classes=1"):
        make_reward(OneHotConfig(), 1, 0)
    with pytest.raises(ConfigError, match="'dice': seed=-1"):
        make_estimator(DiceConfig(), -1)


@pytest.mark.parametrize(
    "config",
    [
        Config(reward=MahalanobisConfig(structure="full", initial=U, learned=False)),
        Config(reward=EmbeddingConfig(hidden_sizes=[3, 4]), estimator=DiceConfig(num_samples=9)),
        Config(reward=NeuralConfig(initial=0.1)),
    ],
)
def test_a_written_configuration_loads_as_the_same(config: Config) -> None:
    assert validate(Config, yaml.safe_load(to_yaml(config))) == config


def test_every_field_is_described() -> None:
    leaves = [f for f in describe_fields(Config) if not f.key.endswith("name")]
    assert {f.variant for f in leaves} == REWARD_CONFIGS.keys() | ESTIMATOR_CONFIGS.keys() - {
        "analytic"
    }
    assert all(leaf.meaning for leaf in leaves)
    (initial,) = [f for f in leaves if (f.key, f.variant) == ("reward.initial", "mahalanobis")]
    assert initial.type == "float >0 | list[list[float]]"
