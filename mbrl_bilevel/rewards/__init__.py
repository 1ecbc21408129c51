"""Rewards of a prediction, `r(y_hat, y, x)`: what the inner problem maximises."""

from mbrl_bilevel.rewards.base import Reward
from mbrl_bilevel.rewards.mahalanobis import MahalanobisReward, QuadraticReward, Structure
from mbrl_bilevel.rewards.make_reward import make_reward
from mbrl_bilevel.rewards.neural import EmbeddingReward, NeuralReward
from mbrl_bilevel.rewards.one_hot import OneHotReward, StateDependentOneHotReward
from mbrl_bilevel.rewards.precision import DiagonalPrecision, FullPrecision, Precision
from mbrl_bilevel.rewards.state_dependent import StateDependentReward

__all__ = [
    "DiagonalPrecision",
    "EmbeddingReward",
    "FullPrecision",
    "MahalanobisReward",
    "NeuralReward",
    "OneHotReward",
    "Precision",
    "QuadraticReward",
    "Reward",
    "StateDependentOneHotReward",
    "StateDependentReward",
    "Structure",
    "make_reward",
]
