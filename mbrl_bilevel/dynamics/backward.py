"""Gradients of a training loss in an ensemble's parameters, written out instead of recorded."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble, bound_log_var_with_slope
from mbrl_bilevel.dynamics.fast_layers import multiplies_bfloat16
from mbrl_bilevel.objectives import Objective
from mbrl_bilevel.types import Gaussian


class Backward(Protocol):
    """Leaves the gradients of the members' summed losses in the parameters' `grad`."""

    def __call__(self, objective: Objective, x: Tensor, y: Tensor) -> Tensor:
        """Return the losses `[E]` for inputs `[E, B, D_x]` and targets `[E, B, D]`."""
        ...


def make_backward(network: nn.Module, dtype: torch.dtype = torch.float32) -> Backward:
    """Return the fastest way to the gradients of a network as it is now.

    Args:
        network: A `GaussianEnsemble` without active leverage has its layers' derivatives written
            out; any other module is differentiated by PyTorch, in its own precision.
        dtype: Of the layers' products where parameters are float32: that or `torch.bfloat16`.
    """
    # A subclass may compute something else.
    if type(network) is not GaussianEnsemble:
        return AutogradBackward(network)
    if network.leverage is not None and network.leverage.is_active:
        return AutogradBackward(network)
    own = network.weights[0].dtype
    return EnsembleBackward(network, dtype if own == torch.float32 else own)


class AutogradBackward:
    """PyTorch's own derivatives, of any module that predicts Gaussians."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __call__(self, objective: Objective, x: Tensor, y: Tensor) -> Tensor:
        self._network.zero_grad(set_to_none=True)
        losses = objective.loss(self._network(x), y)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()


@dataclass(frozen=True)
class _Layer:
    """A layer's parameters, and what its derivatives need, overwritten in every update.

    Attributes:
        weight, bias: As they are multiplied: the parameters themselves, or low copies of them.
        weight_gradient: Product that becomes the weight's gradient; likewise.
        output: `[E, B, out]`; of a hidden layer, whatever stands between two products.
        features: `silu(output)`, `[E, B, out]`. None: the last layer.
        gate: `sigmoid(output)`, then the derivative of `features` in `output`.
    """

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    output: Tensor
    features: Tensor | None
    gate: Tensor | None


class EnsembleBackward:
    """The same derivatives as `AutogradBackward`'s, of a `GaussianEnsemble` without leverage.

    Nothing is allocated from one update to the next, an activation's derivative is read off what
    its value left behind, and a loss whose derivative has a closed form needs no graph at all. With
    bfloat16, what is between the layers is rounded to it, and so are the copies of the parameters
    that it is multiplied with; parameters, predictions and losses stay float32.

    Args:
        network: Its parameters must stay where they are as long as this is used.
        dtype: Of the layers' products.
    """

    def __init__(self, network: GaussianEnsemble, dtype: torch.dtype = torch.float32) -> None:
        self._weights, self._biases = list(network.weights), list(network.biases)
        self._dtype = dtype
        first = self._weights[0]
        self._is_low = dtype != first.dtype
        self._is_emulated = self._is_low and first.is_cpu and not multiplies_bfloat16()
        self._one = torch.ones((), dtype=dtype, device=first.device)
        self._layers: list[_Layer] = []
        for parameter in (*self._weights, *self._biases):
            parameter.grad = torch.empty_like(parameter)

    @torch.no_grad()
    def __call__(self, objective: Objective, x: Tensor, y: Tensor) -> Tensor:
        if not self._layers or self._layers[0].output.shape[:2] != x.shape[:2]:
            self._layers = self._allocate(x.shape[1])
        inputs = x.to(self._dtype)
        outputs = self._forward(inputs).to(self._weights[0].dtype)
        mean, raw_log_var = outputs.chunk(2, dim=-1)
        log_var, slope = bound_log_var_with_slope(raw_log_var)
        prediction = Gaussian(mean, log_var)
        losses, mean_gradient, log_var_gradient = objective.differentiate(prediction, y)
        if log_var_gradient is None:
            log_var_gradient = torch.zeros_like(mean_gradient)
        else:
            log_var_gradient = log_var_gradient * slope
        self._backward(inputs, torch.cat([mean_gradient, log_var_gradient], dim=-1))
        return losses

    def _forward(self, features: Tensor) -> Tensor:
        """Return the last layer's outputs `[E, B, 2 D]`."""
        for layer, weight, bias in zip(self._layers, self._weights, self._biases, strict=True):
            if self._is_low:
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
            self._multiply(features, layer.weight, layer.output, layer.bias)
            if layer.features is not None:
                assert layer.gate is not None
                torch.sigmoid(layer.output, out=layer.gate)
                features = torch.mul(layer.output, layer.gate, out=layer.features)
        return self._layers[-1].output

    def _backward(self, inputs: Tensor, gradient: Tensor) -> None:
        """Fill the parameters' gradients, given that in the last layer's outputs."""
        gradient = gradient.to(self._dtype)
        for index in reversed(range(len(self._layers))):
            layer, weight, bias = self._layers[index], self._weights[index], self._biases[index]
            assert weight.grad is not None
            assert bias.grad is not None
            previous = self._layers[index - 1] if index > 0 else None
            features = inputs if previous is None else previous.features
            assert features is not None
            self._multiply(features.mT, gradient, layer.weight_gradient)
            if self._is_low:
                weight.grad.copy_(layer.weight_gradient)
            torch.sum(gradient, dim=1, keepdim=True, dtype=bias.dtype, out=bias.grad)
            if previous is not None:
                assert previous.gate is not None
                self._multiply(gradient, layer.weight.mT, previous.output)
                # With h = z s and s = sigmoid(z): dh/dz = s + z s (1 - s) = h + s (1 - h).
                torch.lerp(features, self._one, previous.gate, out=previous.gate)
                gradient = previous.output.mul_(previous.gate)

    def _multiply(
        self, left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """Write `left @ right (+ bias)` to `out`, member by member."""
        if self._is_emulated:
            # Without instructions for it, products in bfloat16 take tens of times as long as
            # these, which round alike.
            product = torch.bmm(left.float(), right.float())
            out.copy_(product if bias is None else product + bias)
        elif bias is None:
            torch.bmm(left, right, out=out)
        else:
            torch.baddbmm(bias, left, right, out=out)

    def _allocate(self, batch_size: int) -> list[_Layer]:
        # Outputs are not needed beyond the next product: layers of one width take turns with two.
        shared: dict[tuple[int, int], Tensor] = {}
        layers = []
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            ensemble_size, _, width = weight.shape
            shape = (ensemble_size, batch_size, width)
            is_last = index == len(self._weights) - 1
            output = weight.new_empty(shape, dtype=self._dtype)
            if not is_last:
                output = shared.setdefault((width, index % 2), output)
            assert weight.grad is not None
            layers.append(
                _Layer(
                    torch.empty_like(weight, dtype=self._dtype) if self._is_low else weight,
                    torch.empty_like(bias, dtype=self._dtype) if self._is_low else bias,
                    torch.empty_like(weight, dtype=self._dtype) if self._is_low else weight.grad,
                    output,
                    None if is_last else torch.empty_like(output),
                    None if is_last else torch.empty_like(output),
                )
            )
        return layers
