"""Every reward of real vectors, small and in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

from mbrl_bilevel.rewards import (
    EmbeddingReward,
    MahalanobisReward,
    NeuralReward,
    Reward,
    StateDependentReward,
)

D, D_X = 3, 2
REWARDS: dict[str, Callable[[], Reward]] = {
    "scalar": lambda: MahalanobisReward(D, "scalar"),
    "diagonal": lambda: MahalanobisReward(D, "diagonal"),
    "full": lambda: MahalanobisReward(D, "full"),
    "state_diagonal": lambda: StateDependentReward(D, D_X, "diagonal", (4,)),
    "state_full": lambda: StateDependentReward(D, D_X, "full", (4,)),
    "neural": lambda: NeuralReward(D, D_X, (4,)),
    "neural_without_inputs": lambda: NeuralReward(D, 0, (4,)),
    "embedding": lambda: EmbeddingReward(D, "full", (4,)),
}


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def spd(seed: int, size: int = D) -> Tensor:
    root = normal(seed, size, size)
    return root @ root.mT + 0.1 * torch.eye(size, dtype=torch.float64)


def randomise(reward: Reward, seed: int, size: float = 1.0) -> Reward:
    """In float64, with random parameters."""
    reward = reward.double()
    with torch.no_grad():
        for index, parameter in enumerate(reward.parameters()):
            parameter.copy_(size * normal(1000 * seed + index, *parameter.shape))
    return reward
