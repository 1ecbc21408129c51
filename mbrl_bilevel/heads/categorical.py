"""The categorical head."""

import torch
from torch import Tensor

from mbrl_bilevel.heads.base import Head, check_size


class CategoricalHead(Head):
    """C classes; the outputs are logits, targets are integers `[*S]` from 0 to C - 1.

    Args:
        num_classes: C.
    """

    name = "categorical"
    reparameterisable = False

    def __init__(self, num_classes: int) -> None:
        self.num_classes = check_size(self.name, "num_classes", num_classes, 2)
        self.num_outputs = num_classes

    def log_prob(self, z: Tensor, y: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(z.shape[:-1], y.shape)  # type: ignore[no-untyped-call]
        log_probs = z.log_softmax(dim=-1).expand(*shape, self.num_classes)
        return log_probs.gather(-1, y.long().expand(shape)[..., None])[..., 0]

    def entropy(self, z: Tensor) -> Tensor:
        log_probs = z.log_softmax(dim=-1)
        return -(log_probs.exp() * log_probs).sum(dim=-1)

    def noise(self, z: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
        shape = (num_samples, *z.shape[:-1], 1)
        return torch.rand(shape, generator=generator, dtype=z.dtype).to(z.device)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """Return classes `[K, *S]`, by the inverse of the cumulative distribution."""
        edges = z.detach().softmax(dim=-1).cumsum(dim=-1)
        return (noise >= edges[..., :-1]).sum(dim=-1)

    def check_targets(self, y: Tensor) -> None:
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"the targets have dtype {y.dtype}; head 'categorical' needs integers")
        if y.numel() and (int(y.min()) < 0 or int(y.max()) >= self.num_classes):
            raise ValueError(
                f"the targets lie between {int(y.min())} and {int(y.max())}; with "
                f"{self.num_classes} classes they must lie between 0 and {self.num_classes - 1}"
            )
