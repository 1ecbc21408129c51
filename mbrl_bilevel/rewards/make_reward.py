"""From a reward's settings to the reward."""

import torch
from torch import Tensor

from mbrl_bilevel.config import (
    EmbeddingConfig,
    MahalanobisConfig,
    NeuralConfig,
    OneHotConfig,
    StateDependentConfig,
)
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards.base import Reward
from mbrl_bilevel.rewards.mahalanobis import MahalanobisReward
from mbrl_bilevel.rewards.neural import EmbeddingReward, NeuralReward
from mbrl_bilevel.rewards.one_hot import OneHotReward
from mbrl_bilevel.rewards.state_dependent import StateDependentReward

AnyRewardConfig = (
    MahalanobisConfig | StateDependentConfig | NeuralConfig | EmbeddingConfig | OneHotConfig
)


def make_reward(
    config: AnyRewardConfig, target_size: int, input_size: int, seed: int = 0
) -> Reward:
    """Return the reward for targets of D dimensions, or of C classes for `one_hot`.

    Args:
        config: Which reward, and its settings. With `learned: false` no parameter of it requires a
            gradient.
        target_size: D, or C.
        input_size: D_x; only the rewards that look at the inputs use it.
        seed: Of the initial weights of a reward's network.

    Raises:
        ConfigError: A setting does not fit these sizes, or the matrix is not positive definite.
    """
    try:
        reward = _build(config, target_size, input_size, seed)
    except ConfigError as error:
        raise ConfigError(f"reward {config.name!r}: {error}") from None
    return reward.requires_grad_(config.learned)


def _build(config: AnyRewardConfig, target_size: int, input_size: int, seed: int) -> Reward:
    match config:
        case MahalanobisConfig():
            return MahalanobisReward(target_size, config.structure, _matrix(config.initial))
        case StateDependentConfig():
            return StateDependentReward(
                target_size,
                input_size,
                config.structure,
                config.hidden_sizes,
                _matrix(config.initial),
                seed,
            )
        case NeuralConfig():
            return NeuralReward(target_size, input_size, config.hidden_sizes, config.initial, seed)
        case EmbeddingConfig():
            return EmbeddingReward(
                target_size, config.structure, config.hidden_sizes, _matrix(config.initial), seed
            )
        case OneHotConfig():
            return OneHotReward(target_size, config.structure, _matrix(config.initial))


def _matrix(initial: float | list[list[float]]) -> float | Tensor:
    return torch.tensor(initial) if isinstance(initial, list) else initial
