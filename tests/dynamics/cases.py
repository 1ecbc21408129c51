"""Small models and data for the tests of the dynamics."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import (
    BetaNLLConfig,
    BilevelConfig,
    ModelConfig,
    MSEConfig,
    NLLConfig,
    ObjectiveConfig,
    PGConfig,
)
from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.dynamics import DynamicsModel

OBS_SIZE = 2
CONFIGS: dict[str, ObjectiveConfig] = {
    "mse": MSEConfig(),
    "nll": NLLConfig(),
    "beta_nll": BetaNLLConfig(),
    "pg": PGConfig(precision="full"),
    "bilevel": BilevelConfig(reward="diagonal"),
    "bilevel_scalar": BilevelConfig(reward="scalar"),
    "bilevel_full": BilevelConfig(reward="full"),
    "bilevel_state_dependent": BilevelConfig(reward="state_dependent"),
}
BOX = spaces.Box(-1.0, 1.0, (1,))
DISCRETE = spaces.Discrete(3, start=1)
NOISE = torch.tensor([0.02, 0.3, 0.1])
"""Standard deviations of the linear system's next observation, two, and reward."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Of a generator of its own, in float64."""
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def linear_system(
    count: int, seed: int = 0, space: spaces.Box | spaces.Discrete = BOX
) -> Transitions:
    """`count` transitions of a noisy linear system; it terminates where obs[1] > 1."""
    noise = torch.randn(count, 6, generator=generator(seed))
    obs = torch.stack([2 + noise[:, 0], 3 * noise[:, 1]], dim=1)
    if isinstance(space, spaces.Discrete):
        actions = torch.randint(1, 4, (count,), generator=generator(seed + 1)).numpy()
    else:
        actions = noise[:, 2:3].tanh().numpy()
    push = ActionCodec(space).encode(actions)[:, :1]
    slope = torch.tensor([[-0.1, 0.2], [0.3, -0.2]])
    next_obs = obs + obs @ slope + push * torch.tensor([0.5, -1.0]) + NOISE[:2] * noise[:, 3:5]
    rewards = obs[:, 0] - push[:, 0] + NOISE[2] * noise[:, 5]
    return Transitions(
        obs.numpy(),
        actions,
        rewards.numpy(),
        next_obs.numpy(),
        (obs[:, 1] > 1).numpy(),
        np.zeros(count, np.bool_),
    )


def settings(**changes: Any) -> ModelConfig:
    """A small ensemble, trained briefly."""
    small = {"ensemble_size": 3, "hidden_sizes": [16, 16], "num_updates": 60, "eval_every": 10}
    return ModelConfig.model_validate(small | changes)


def make_model(
    objective: str = "nll",
    config: ModelConfig | None = None,
    *,
    seed: int = 0,
    space: spaces.Space[Any] = BOX,
    learns_reward: bool = False,
    learns_termination: bool = False,
) -> DynamicsModel:
    config = config or settings()
    target_size = DynamicsModel.target_size(OBS_SIZE, learns_reward)
    return DynamicsModel(
        OBS_SIZE,
        ActionCodec(space),
        config,
        make_objective(CONFIGS[objective], config.ensemble_size, target_size),
        learns_reward=learns_reward,
        learns_termination=learns_termination,
        generator=generator(seed),
    )


def disturb(module: torch.nn.Module, seed: int = 7) -> None:
    """Give every number in the module a random value; those called std or matrix stay positive."""
    draws = generator(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=draws, dtype=torch.float64)
                positive = name.endswith(("std", "matrix", "share"))
                value.copy_(noise.exp() if positive else value + 0.5 * noise)
