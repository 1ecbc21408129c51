"""All objectives, and predictions to try them on."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import (
    BetaNLLConfig,
    BilevelConfig,
    MSEConfig,
    NLLConfig,
    ObjectiveConfig,
    PGConfig,
)
from mbrl_bilevel.objectives import Objective
from mbrl_bilevel.types import Gaussian

E, N, D = 3, 40, 2
CONFIGS: dict[str, ObjectiveConfig] = {
    "mse": MSEConfig(),
    "nll": NLLConfig(),
    "beta_nll": BetaNLLConfig(),
    "pg_identity": PGConfig(),
    "pg_trace": PGConfig(precision="trace"),
    "pg_full": PGConfig(precision="full"),
    "bilevel": BilevelConfig(reward="diagonal"),
    "bilevel_scalar": BilevelConfig(reward="scalar"),
    "bilevel_full": BilevelConfig(reward="full"),
}
EACH_OBJECTIVE = pytest.mark.parametrize("name", CONFIGS)


def make(name: str, members: int = E, dims: int = D) -> Objective:
    """The objective in float64."""
    return make_objective(CONFIGS[name], members, dims).double()


def draw(
    seed: int = 0, members: int = E, samples: int = N, dims: int = D
) -> tuple[Gaussian, Tensor]:
    """Predictions `[E, N, D]` that are leaves, and targets `[E, N, D]`, in float64."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_var, noise = torch.randn(
        3, members, samples, dims, generator=generator, dtype=torch.float64
    )
    scale = torch.linspace(0.3, 1.5, dims, dtype=torch.float64)
    target = (mean + scale * noise).detach()
    return Gaussian(mean.requires_grad_(), log_var.requires_grad_()), target


def detached(prediction: Gaussian) -> Gaussian:
    return Gaussian(prediction.mean.detach(), prediction.log_var.detach())
