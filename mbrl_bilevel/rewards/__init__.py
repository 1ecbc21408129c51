"""Rewards of a prediction, `r(y_hat, y, x)`: what the inner problem maximises."""

from mbrl_bilevel.rewards.mahalanobis import MahalanobisReward

__all__ = ["MahalanobisReward"]
