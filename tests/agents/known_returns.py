"""Returns of plans whose best plan is known, for the planners' tests."""

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.planning import EvaluateFn
from mbrl_bilevel.data import ActionCodec

HORIZON = 5
BOX = ActionCodec(spaces.Box(-2.0, 2.0, (2,)))
DISCRETE = ActionCodec(spaces.Discrete(3))

# A smooth best plan, and one that jumps from bound to bound.
BOX_TARGETS = torch.stack(
    [
        torch.linspace(-0.8, 0.7, HORIZON)[:, None] * torch.tensor([1.0, -0.5]),
        torch.tensor([1.0, -1.0, 0.3, -0.4, 1.0])[:, None].expand(-1, 2),
    ]
)
DISCRETE_TARGETS = torch.nn.functional.one_hot(
    torch.tensor([[2, 0, 1, 1, 0], [0, 0, 0, 2, 2]]), 3
).float()


def distance_to(targets: Tensor) -> EvaluateFn:
    """Returns of plans `[B, C, H, A]`: minus the squared distance to `targets` `[B, H, A]`."""
    return lambda plans: -(plans - targets[:, None]).square().sum(dim=(2, 3))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Recorder:
    """An `EvaluateFn` that remembers what it was asked."""

    def __init__(self, evaluate: EvaluateFn) -> None:
        self.evaluate = evaluate
        self.candidates: list[Tensor] = []
        self.returns: list[Tensor] = []

    def __call__(self, plans: Tensor) -> Tensor:
        self.candidates.append(plans)
        self.returns.append(self.evaluate(plans))
        return self.returns[-1]
