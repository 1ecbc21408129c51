"""Data, and features of x in which models are linear.

`linear`: x itself and a one. `tabular`: an indicator for each of a few points, which leaves the
model's outputs at each point free.
"""

import torch
from torch import Tensor

from mbrl_bilevel.heads import CategoricalHead, Head

D, C, D_X = 2, 5, 2
NUM_INNER, NUM_OUTER = 20, 16
POINTS = torch.tensor([[-1.0, 0.5], [-0.2, -0.8], [0.4, 0.9], [1.1, -0.3]], dtype=torch.float64)


def make_data(model: str, head: Head) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Inner and held-out `(x [N, D_x], y)`; tabular ones have the same points x."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    slope = normal(D_X, max(C, D))

    def draw(size: int) -> tuple[Tensor, Tensor]:
        x = POINTS[torch.arange(size) % len(POINTS)] if model == "tabular" else normal(size, D_X)
        if isinstance(head, CategoricalHead):
            return x, (x @ slope[:, :C] + 2 * normal(size, C)).argmax(dim=-1)
        scale = 0.5 + 0.3 * x.square()
        return x, x @ slope[:, :D] + scale * normal(size, D)

    return draw(NUM_INNER), draw(NUM_OUTER)


def linear_features(x: Tensor) -> Tensor:
    """`[N, D_x + 1]`."""
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=-1)


def tabular_features(x: Tensor) -> Tensor:
    """Which of the points, `[N, 4]`."""
    return (x[:, None] == POINTS).all(dim=-1).to(x)


FEATURES = {"linear": linear_features, "tabular": tabular_features}
