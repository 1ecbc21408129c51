"""Ensemble of Gaussian multi-layer perceptrons, batched over members."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mbrl_bilevel.types import Gaussian

Layers = list[tuple[Tensor, Tensor]]
"""Weights `[P, in, out]` and biases `[P, 1, out]`, one pair a layer."""


class GaussianEnsemble(nn.Module):
    """E networks `x -> N(mean(x), diag(exp(log_var(x))))` evaluated in one batched product.

    The log-variance is softly held between learned bounds (Chua et al. 2018, appendix A.1).

    Args:
        input_size: D_x.
        target_size: D.
        ensemble_size: E.
        hidden_sizes: Width of each hidden layer (SiLU).
        generator: Draws the initial weights.
    """

    def __init__(
        self,
        input_size: int,
        target_size: int,
        ensemble_size: int,
        hidden_sizes: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.ensemble_size = ensemble_size
        self.target_size = target_size
        sizes = [input_size, *hidden_sizes, 2 * target_size]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            weight = torch.empty(ensemble_size, fan_in, fan_out)
            std = 1 / math.sqrt(fan_in)
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(ensemble_size, 1, fan_out)))
        self.min_log_var = nn.Parameter(torch.full((ensemble_size, 1, target_size), -10.0))
        self.max_log_var = nn.Parameter(torch.full((ensemble_size, 1, target_size), 0.5))

    def forward(self, x: Tensor) -> Gaussian:
        """Return the predictions `[E, N, D]` of every member for its inputs `[E, N, D_x]`."""
        layers = list(zip(self.weights, self.biases, strict=True))
        mean, raw_log_var = multi_layer(x, layers).chunk(2, dim=-1)
        return Gaussian(mean, bound_log_var(raw_log_var, self.min_log_var, self.max_log_var))

    def bounds_width(self) -> Tensor:
        """Return each member's mean width of the log-variance bounds, `[E]`; to be kept small."""
        return (self.max_log_var - self.min_log_var).mean(dim=(1, 2))


def multi_layer(x: Tensor, layers: Layers) -> Tensor:
    """Return the outputs `[P, N, out]` of P networks for inputs `[P, N, D_x]`."""
    for weight, bias in layers[:-1]:
        x = functional.silu(torch.baddbmm(bias, x, weight))
    weight, bias = layers[-1]
    return torch.baddbmm(bias, x, weight)


def bound_log_var(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return `raw` softly held between `low` and `high`."""
    upper = high - functional.softplus(high - raw)
    return low + functional.softplus(upper - low)
