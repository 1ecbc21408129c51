"""A Mahalanobis reward whose matrix U depends on the input."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards.mahalanobis import QuadraticReward, check_structure, initial_matrix
from mbrl_bilevel.rewards.networks import reward_network
from mbrl_bilevel.rewards.precision import (
    DiagonalPrecision,
    FullPrecision,
    Precision,
    full_precision_entries,
)


class StateDependentReward(QuadraticReward):
    """`U(x)` by a network: its log-diagonal, and for a full U the rest of its root.

    The network's output is added to the constant start, so `U(x) = initial` before learning.

    Args:
        target_size: D.
        input_size: D_x.
        structure: `"diagonal"` or `"full"`.
        hidden_sizes: Width of each hidden layer.
        initial: U at the start, as for `MahalanobisReward`.
        seed: Of the initial weights.

    Raises:
        ConfigError: A size, the structure or the matrix is impossible.
    """

    start: Tensor

    def __init__(
        self,
        target_size: int,
        input_size: int,
        structure: Literal["diagonal", "full"] = "diagonal",
        hidden_sizes: Sequence[int] = (64, 64),
        initial: float | Tensor = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if structure not in ("diagonal", "full"):
            raise ConfigError(f"unknown structure {structure!r} of U(x); allowed: diagonal, full")
        self.structure = structure
        self.target_size = target_size
        matrix = initial_matrix(initial, target_size)
        check_structure(matrix, structure)
        if structure == "full":
            start = torch.cat(full_precision_entries(matrix))
        else:
            start = matrix.diagonal().log()
        self.register_buffer("start", start)
        generator = torch.Generator().manual_seed(seed)
        network = reward_network(input_size, hidden_sizes, len(start), generator)
        self.network = network.to(start.dtype)

    def precision(self, x: Tensor | None = None) -> Precision:
        """Return `U(x) [*S, D, D]` for inputs `[*S, D_x]`.

        Raises:
            ValueError: x is missing.
        """
        if x is None:
            raise ValueError("a state-dependent reward needs the inputs x")
        entries: Tensor = self.start + self.network(x)
        if self.structure == "diagonal":
            return DiagonalPrecision(entries)
        return FullPrecision(entries[..., : self.target_size], entries[..., self.target_size :])
