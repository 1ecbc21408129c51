"""Typed, strict configuration."""

from mbrl_bilevel.config.base import StrictConfig
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
from mbrl_bilevel.config.schema import (
    CheckpointConfig,
    EnvConfig,
    EvalConfig,
    ModelConfig,
    TrainConfig,
)

__all__ = [
    "OBJECTIVE_CONFIGS",
    "BetaNLLConfig",
    "BilevelConfig",
    "CheckpointConfig",
    "EnvConfig",
    "EvalConfig",
    "FieldDescription",
    "MSEConfig",
    "ModelConfig",
    "NLLConfig",
    "ObjectiveConfig",
    "StrictConfig",
    "TrainConfig",
    "describe_fields",
    "find_config",
    "list_configs",
    "load_data",
    "to_yaml",
    "validate",
]
