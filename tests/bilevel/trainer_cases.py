"""A problem small enough to know the answer, for `BilevelTrainer`."""

from typing import Any

import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import BilevelTrainer
from mbrl_bilevel.rewards import MahalanobisReward, Reward

Data = tuple[Tensor, Tensor]
NOISE = 0.5


def make_data(num: int, seed: int, size: int = 1) -> Data:
    """`y = 2 x + 1 + NOISE eps` for every dimension."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, size, generator=generator, dtype=torch.float64)
    return x, 2 * x + 1 + NOISE * torch.randn(num, size, generator=generator, dtype=torch.float64)


INNER_DATA = make_data(100, 0)
OUTER_DATA = make_data(100, 1)


class Affine(nn.Module):
    """A mean affine in x, and one log-variance for all x."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.mean = nn.Linear(size, size, dtype=torch.float64)
        self.log_var = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        with torch.no_grad():
            self.mean.weight.copy_(2 * torch.eye(size))
            self.mean.bias.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        return torch.cat([mean, self.log_var.expand_as(mean)], dim=-1)


def make_trainer(
    model: nn.Module | None = None, reward: Reward | None = None, **settings: Any
) -> BilevelTrainer:
    defaults = {"inner_steps": 10, "inner_lr": 0.05, "outer_lr": 0.1, "initial_inner_steps": 20}
    return BilevelTrainer(
        Affine() if model is None else model,
        MahalanobisReward(1).double() if reward is None else reward,
        **{**defaults, **settings},
    )


def gradient_descent(lr: float) -> dict[str, Any]:
    return {"outer_optimizer": lambda params: torch.optim.SGD(params, lr)}


def optimal_u(model: nn.Module, data: Data, temperature: float = 1.0) -> float:
    with torch.no_grad():
        residual = data[1] - model(data[0])[..., : data[1].shape[-1]]
    return temperature / (2 * residual.square().mean().item())


def learned_u(trainer: BilevelTrainer) -> float:
    assert isinstance(trainer.reward, MahalanobisReward)
    return trainer.reward.log_u.exp().mean().item()
