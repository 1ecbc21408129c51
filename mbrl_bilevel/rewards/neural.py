"""Rewards whose shape is learned, not quadratic."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards.base import Reward
from mbrl_bilevel.rewards.mahalanobis import MahalanobisReward, Structure
from mbrl_bilevel.rewards.networks import reward_network


class NeuralReward(Reward):
    """`r = -sum_i w_i(y_hat - y, x) (y_hat_i - y_i)^2`, the weights w > 0 by a network.

    Any dependence on the error's size and direction and on the input, with its maximum at the
    target: weights that shrink with the error make it robust, say; those that ignore it are a
    state-dependent diagonal U.

    Args:
        target_size: D.
        input_size: D_x; 0: the inputs are not looked at.
        hidden_sizes: Width of each hidden layer.
        initial: Every weight at the start; positive.
        seed: Of the initial weights.

    Raises:
        ConfigError: A size or the start is impossible.
    """

    log_start: Tensor

    def __init__(
        self,
        target_size: int,
        input_size: int,
        hidden_sizes: Sequence[int] = (64, 64),
        initial: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        constant = MahalanobisReward(target_size, "scalar", initial)  # for its checks
        self.register_buffer("log_start", constant.log_u.detach())
        self.target_size = target_size
        if input_size < 0:
            raise ConfigError(f"input_size={input_size}; it must be at least 0")
        self.input_size = input_size
        generator = torch.Generator().manual_seed(seed)
        self.network = reward_network(
            target_size + input_size, hidden_sizes, target_size, generator
        )

    def forward(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> Tensor:
        error = y_hat - y
        # In units of the start, and bounded: far from the target the reward is quadratic again.
        scaled = (0.5 * self.log_start).exp() * error
        features = scaled * (1 + scaled.square()).rsqrt()
        if self.input_size:
            if x is None:
                raise ValueError("this neural reward needs the inputs x")
            shape = torch.broadcast_shapes(error.shape[:-1], x.shape[:-1])  # type: ignore[no-untyped-call]
            features = torch.cat([features.expand(*shape, -1), x.expand(*shape, -1)], dim=-1)
        weights: Tensor = (self.log_start + self.network(features)).exp()
        return -(weights * error.square()).sum(dim=-1)


class EmbeddingReward(Reward):
    """`r = -(h(y_hat) - h(y))^T U (h(y_hat) - h(y))`, with a learned `h(y) = y + network(y)`.

    Args:
        target_size: D.
        structure: Of U, as for `MahalanobisReward`.
        hidden_sizes: Width of the embedding's hidden layers.
        initial: U at the start.
        seed: Of the initial weights.

    Raises:
        ConfigError: A size, the structure or the matrix is impossible.
    """

    def __init__(
        self,
        target_size: int,
        structure: Structure = "diagonal",
        hidden_sizes: Sequence[int] = (64,),
        initial: float | Tensor = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.target_size = target_size
        self.metric = MahalanobisReward(target_size, structure, initial)
        generator = torch.Generator().manual_seed(seed)
        network = reward_network(target_size, hidden_sizes, target_size, generator)
        # The same constant in both embeddings would cancel.
        network[-1].register_parameter("bias", None)
        self.network = network.to(next(self.metric.parameters()).dtype)

    def embed(self, y: Tensor) -> Tensor:
        """Return `h(y)`, `[..., D]`."""
        residual: Tensor = self.network(y)
        return y + residual

    def forward(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> Tensor:
        reward: Tensor = self.metric(self.embed(y_hat), self.embed(y), x)
        return reward
