"""The synthetic data of the paper's section 5.2, and the models that learn it."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mbrl_bilevel.config.reproduce import SyntheticConfig
from mbrl_bilevel.runs import derive_seed

TARGET_SIZE = 2
NOISE_STD = 1.25
SHIFT = 6.0
MAX_INPUT = 5.0

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SyntheticData:
    """`y = x + 6 + 1.25 eps` with `x ~ U(-5, 5)^2`, float32.

    Attributes:
        training: x `[num_inputs * num_draws, 2]`, each num_draws times, and their targets y.
        held_out: x `[num_held_out, 2]`, fresh ones, and one target y of each.
    """

    training: Data
    held_out: Data


def true_mean(x: Tensor) -> Tensor:
    """Return `E[y|x]`, `[..., 2]`."""
    return x + SHIFT


def true_u(temperature: float) -> float:
    """Return the scalar u whose inner optimum is the true distribution: `temperature / (2 s^2)`."""
    return temperature / (2 * NOISE_STD**2)


def make_data(config: SyntheticConfig, seed: int) -> SyntheticData:
    """Draw training and held-out data; the same for the same seed."""
    training_x = draw_inputs(config.num_inputs, derive_seed(seed, "training inputs"))
    training_x = training_x.repeat_interleave(config.num_draws, dim=0)
    held_out_x = draw_inputs(config.num_held_out, derive_seed(seed, "held-out inputs"))
    return SyntheticData(
        training=(training_x, _draw_targets(training_x, derive_seed(seed, "training noise"))),
        held_out=(held_out_x, _draw_targets(held_out_x, derive_seed(seed, "held-out noise"))),
    )


def draw_inputs(num: int, seed: int) -> Tensor:
    """Return `[num, 2]` inputs."""
    generator = torch.Generator().manual_seed(seed)
    return MAX_INPUT * (2 * torch.rand(num, TARGET_SIZE, generator=generator) - 1)


def _draw_targets(x: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return true_mean(x) + NOISE_STD * torch.randn(x.shape, generator=generator)


class StandardisedMLP(nn.Module):
    """An MLP (SiLU) on inputs and targets standardised by the training data.

    The outputs are two means, in the targets' own units, and two log-variances, which start near
    zero: `[..., 2] -> [..., 4]`, as `DiagonalGaussianHead` reads them.

    Args:
        training: What the moments are taken from.
        hidden_sizes: Width of each hidden layer.
        seed: Of the initial weights.
    """

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor

    def __init__(self, training: Data, hidden_sizes: Sequence[int], seed: int) -> None:
        super().__init__()
        for name, values in zip("xy", training, strict=True):
            self.register_buffer(f"{name}_mean", values.mean(dim=0))
            self.register_buffer(f"{name}_std", values.std(dim=0))
        generator = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise([TARGET_SIZE, *hidden_sizes]):
            layers += [_linear(fan_in, fan_out, generator), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.last = _linear(hidden_sizes[-1], 2 * TARGET_SIZE, generator)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.last(self.trunk((x - self.x_mean) / self.x_std))
        mean = self.y_mean + self.y_std * outputs[..., :TARGET_SIZE]
        return torch.cat([mean, outputs[..., TARGET_SIZE:]], dim=-1)

    def last_layer(self) -> dict[str, Tensor]:
        """Return the last layer's parameters, by their names in the model."""
        return {f"last.{name}": parameter for name, parameter in self.last.named_parameters()}


def make_model(config: SyntheticConfig, data: SyntheticData, seed: int) -> StandardisedMLP:
    """Return an untrained model; the same for the same seed."""
    return StandardisedMLP(data.training, config.hidden_sizes, derive_seed(seed, "weights"))


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a layer with PyTorch's usual initial weights, from a generator of its own."""
    layer = nn.Linear(fan_in, fan_out)
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer
