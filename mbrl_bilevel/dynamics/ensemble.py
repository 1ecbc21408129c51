"""Ensemble of Gaussian multi-layer perceptrons, batched over members."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mbrl_bilevel.dynamics.leverage import Leverage
from mbrl_bilevel.types import Gaussian

MIN_LOG_VAR = -16.0
"""Of a target normalised to unit variance: errors of 0.03% of its standard deviation."""
MAX_LOG_VAR = 1.0
"""Of the same: errors of 1.6 standard deviations. More would fit rare outliers a little better, and
let particles that leave the data fly away."""

Layers = list[tuple[Tensor, Tensor]]
"""Weights `[P, in, out]` and biases `[P, 1, out]`, one pair a layer."""


class GaussianEnsemble(nn.Module):
    """E networks `x -> N(mean(x), diag(exp(log_var(x))))` evaluated in one batched product.

    The log-variance is softly held between two bounds, as in Chua et al. (2018, appendix A.1), but
    fixed ones: learned bounds close in on the data at the pace of the learning rate, and with a
    loss that gives predictable samples little weight they take their small variances away.

    Args:
        input_size: D_x.
        target_size: D.
        ensemble_size: E.
        hidden_sizes: Width of each hidden layer (SiLU).
        generator: Draws the initial weights.
        with_leverage: Whether log-variances can grow with the distance from the training data.

    Attributes:
        leverage: How they do; None: they cannot.
    """

    def __init__(
        self,
        input_size: int,
        target_size: int,
        ensemble_size: int,
        hidden_sizes: Sequence[int],
        generator: torch.Generator,
        *,
        with_leverage: bool = False,
    ) -> None:
        super().__init__()
        self.leverage = (
            Leverage(ensemble_size, hidden_sizes[-1], target_size) if with_leverage else None
        )
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

    def forward(self, x: Tensor) -> Gaussian:
        """Return the predictions `[E, N, D]` of every member for its inputs `[E, N, D_x]`."""
        *hidden, (weight, bias) = self._layers()
        features = functional.silu(multi_layer(x, hidden))
        mean, raw_log_var = torch.baddbmm(bias, features, weight).chunk(2, dim=-1)
        if self.leverage is not None and self.leverage.is_active:
            raw_log_var = raw_log_var + self.leverage(features)
        return Gaussian(mean, bound_log_var(raw_log_var))

    def member_features(self, x: Tensor, member: int) -> Tensor:
        """Return what a member's last layer is linear in, `[N, F + 1]`: at its end a one.

        Args:
            x: Inputs `[N, D_x]`.
            member: Its index.
        """
        layers = [(w[member : member + 1], b[member : member + 1]) for w, b in self._layers()[:-1]]
        hidden = functional.silu(multi_layer(x[None], layers)[0])
        return torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=-1)

    def _layers(self) -> Layers:
        return list(zip(self.weights, self.biases, strict=True))


def multi_layer(x: Tensor, layers: Layers) -> Tensor:
    """Return the outputs `[P, N, out]` of P networks for inputs `[P, N, D_x]`."""
    for weight, bias in layers[:-1]:
        x = functional.silu(torch.baddbmm(bias, x, weight))
    weight, bias = layers[-1]
    return torch.baddbmm(bias, x, weight)


def bounded_std(raw: Tensor, variance_scale: Tensor) -> Tensor:
    """Return the standard deviations `exp(bound_log_var(raw) / 2) * variance_scale.sqrt()`.

    Without logarithms: the exponential of what is bounded softly on both sides is a sum.
    """
    smallest, span = math.exp(MIN_LOG_VAR), math.exp(MAX_LOG_VAR)
    gate = (raw - MAX_LOG_VAR).sigmoid_()
    return torch.addcmul(smallest * variance_scale, gate, span * variance_scale).sqrt_()


def bound_log_var(raw: Tensor) -> Tensor:
    """Return `raw` softly held between `MIN_LOG_VAR` and `MAX_LOG_VAR`."""
    upper = MAX_LOG_VAR - functional.softplus(MAX_LOG_VAR - raw)
    return MIN_LOG_VAR + functional.softplus(upper - MIN_LOG_VAR)


def bound_log_var_with_slope(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Return `bound_log_var(raw)` and its derivative, from one exponential."""
    smallest = math.exp(MIN_LOG_VAR)
    gate = (raw - MAX_LOG_VAR).sigmoid()
    upper = gate * math.exp(MAX_LOG_VAR)
    variance = upper + smallest
    slope = torch.addcmul(upper, upper, gate, value=-1).div_(variance)
    return variance.log_(), slope
