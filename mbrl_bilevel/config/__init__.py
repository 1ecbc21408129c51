"""Typed, strict configuration."""

from mbrl_bilevel.config.base import StrictConfig
from mbrl_bilevel.config.collect import (
    AgentPolicyConfig,
    CollectConfig,
    NewDatasetConfig,
    PolicyConfig,
    RandomPolicyConfig,
    SB3PolicyConfig,
)
from mbrl_bilevel.config.dataset import DatasetConfig, is_dataset_id
from mbrl_bilevel.config.describe import FieldDescription, describe_fields
from mbrl_bilevel.config.load import (
    find_config,
    list_configs,
    load_data,
    to_yaml,
    validate,
)
from mbrl_bilevel.config.objectives import (
    OBJECTIVE_CONFIGS,
    BetaNLLConfig,
    BilevelConfig,
    MSEConfig,
    NLLConfig,
    ObjectiveConfig,
)
from mbrl_bilevel.config.rewards import (
    ESTIMATOR_CONFIGS,
    REWARD_CONFIGS,
    AnalyticConfig,
    DiceConfig,
    EmbeddingConfig,
    EstimatorConfig,
    MahalanobisConfig,
    NeuralConfig,
    OneHotConfig,
    ReparameterisedConfig,
    RewardConfig,
    ScoreFunctionConfig,
    StateDependentConfig,
)
from mbrl_bilevel.config.schema import (
    CheckpointConfig,
    EnvConfig,
    EvalConfig,
    ModelConfig,
    TrainConfig,
)

__all__ = [
    "ESTIMATOR_CONFIGS",
    "OBJECTIVE_CONFIGS",
    "REWARD_CONFIGS",
    "AgentPolicyConfig",
    "AnalyticConfig",
    "BetaNLLConfig",
    "BilevelConfig",
    "CheckpointConfig",
    "CollectConfig",
    "DatasetConfig",
    "DiceConfig",
    "EmbeddingConfig",
    "EnvConfig",
    "EstimatorConfig",
    "EvalConfig",
    "FieldDescription",
    "MSEConfig",
    "MahalanobisConfig",
    "ModelConfig",
    "NLLConfig",
    "NeuralConfig",
    "NewDatasetConfig",
    "ObjectiveConfig",
    "OneHotConfig",
    "PolicyConfig",
    "RandomPolicyConfig",
    "ReparameterisedConfig",
    "RewardConfig",
    "SB3PolicyConfig",
    "ScoreFunctionConfig",
    "StateDependentConfig",
    "StrictConfig",
    "TrainConfig",
    "describe_fields",
    "find_config",
    "is_dataset_id",
    "list_configs",
    "load_data",
    "to_yaml",
    "validate",
]
