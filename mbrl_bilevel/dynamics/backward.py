"""Gradients of a training loss in an ensemble's parameters, written out instead of recorded."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble, bound_log_var_with_slope
from mbrl_bilevel.dynamics.onednn import linear, multiplies_bfloat16, prefers_onednn
from mbrl_bilevel.objectives import Objective
from mbrl_bilevel.types import Gaussian

MIN_WORK = 3 * 2**22
"""Multiplications of a member in all layers from which on each member has its own products by
oneDNN, where that is the faster library (measured on Zen 5: from 92 rows on, with four layers of
200)."""


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

    Of all members, or of one of them: then without the first dimension.

    Attributes:
        weight, bias: As they are multiplied: the parameters themselves, or low copies of them.
        weight_gradient, bias_gradient: What becomes their gradients; likewise.
        output: `[E, B, out]`; of a hidden layer in float32, whatever stands between two products.
        features: `silu(output)`, `[E, B, out]`. None: the last layer.
        gate: `sigmoid(output)`, then the derivative of `features` in `output`; in bfloat16, room
            for the derivative of the loss in `output`.
    """

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    output: Tensor
    features: Tensor | None
    gate: Tensor | None

    def of(self, member: int) -> "_Layer":
        """Return a member's part, in the same memory."""
        return _Layer(
            self.weight[member],
            self.bias[member],
            self.weight_gradient[member],
            self.bias_gradient[member],
            self.output[member],
            None if self.features is None else self.features[member],
            None if self.gate is None else self.gate[member],
        )


class EnsembleBackward:
    """The same derivatives as `AutogradBackward`'s, of a `GaussianEnsemble` without leverage.

    Nothing is allocated from one update to the next (but products of oneDNN, which PyTorch takes
    into no tensor that is there already), and a loss whose derivative has a closed form needs no
    graph at all. With bfloat16, what is between the layers is rounded to it, and so are the copies
    of the parameters that it is multiplied with; parameters, predictions and losses stay float32.

    An activation's derivative is read off the sigmoid that its value left behind. In bfloat16,
    where every pass converts its numbers twice, it is computed anew instead, in one pass.

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
        self._can_part = first.is_cpu and dtype == torch.float32 and prefers_onednn()
        self._one = torch.ones((), dtype=dtype, device=first.device)
        self._layers: list[_Layer] = []
        self._parts: list[list[_Layer]] = []
        """What is computed one after the other: all members at once, or each by itself."""
        for parameter in (*self._weights, *self._biases):
            parameter.grad = torch.empty_like(parameter)

    @torch.no_grad()
    def __call__(self, objective: Objective, x: Tensor, y: Tensor) -> Tensor:
        if not self._layers or self._layers[0].output.shape[:2] != x.shape[:2]:
            self._layers = self._allocate(x.shape[1])
            self._parts = self._make_parts(x.shape[1])
        if self._is_low:
            for layer, weight, bias in zip(self._layers, self._weights, self._biases, strict=True):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
        inputs = x.to(self._dtype)
        for part, its_inputs in zip(self._parts, self._parted(inputs), strict=True):
            self._forward(part, its_inputs)
        outputs = self._layers[-1].output.to(self._weights[0].dtype)
        mean, raw_log_var = outputs.chunk(2, dim=-1)
        log_var, slope = bound_log_var_with_slope(raw_log_var)
        prediction = Gaussian(mean, log_var)
        losses, mean_gradient, log_var_gradient = objective.differentiate(prediction, y)
        if log_var_gradient is None:
            log_var_gradient = torch.zeros_like(mean_gradient)
        else:
            log_var_gradient = log_var_gradient * slope
        gradient = torch.cat([mean_gradient, log_var_gradient], dim=-1).to(self._dtype)
        parts = zip(self._parts, self._parted(inputs), self._parted(gradient), strict=True)
        for part, its_inputs, its_gradient in parts:
            self._backward(part, its_inputs, its_gradient)
        if self._is_low:
            for layer, weight, bias in zip(self._layers, self._weights, self._biases, strict=True):
                assert weight.grad is not None
                assert bias.grad is not None
                weight.grad.copy_(layer.weight_gradient)
                bias.grad.copy_(layer.bias_gradient)
        return losses

    def _forward(self, layers: list[_Layer], features: Tensor) -> None:
        """Fill the last layer's outputs, and what the derivatives need of the hidden ones."""
        for layer in layers:
            output = self._product(features, layer.weight, layer.output, layer.bias)
            if layer.features is None or layer.gate is None:
                _keep(output, layer.output)
            elif self._is_low:
                features = torch.ops.aten.silu.out(output, out=layer.features)
            else:
                torch.sigmoid(output, out=layer.gate)
                features = torch.mul(output, layer.gate, out=layer.features)

    def _backward(self, layers: list[_Layer], inputs: Tensor, gradient: Tensor) -> None:
        """Fill the parameters' gradients, given that in the last layer's outputs."""
        for index in reversed(range(len(layers))):
            layer, previous = layers[index], layers[index - 1] if index > 0 else None
            features = inputs if previous is None else previous.features
            assert features is not None
            _keep(
                self._product(features.mT, gradient, layer.weight_gradient), layer.weight_gradient
            )
            # Rounded in bfloat16, as products are: without, sums take four times as long.
            torch.sum(gradient, dim=-2, keepdim=True, out=layer.bias_gradient)
            if previous is None:
                continue
            assert previous.gate is not None
            if self._is_low:
                product = self._product(gradient, layer.weight.mT, previous.gate)
                gradient = torch.ops.aten.silu_backward.grad_input(
                    product, previous.output, grad_input=product
                )
            else:
                product = self._product(gradient, layer.weight.mT, previous.output)
                # With h = z s and s = sigmoid(z): dh/dz = s + z s (1 - s) = h + s (1 - h).
                torch.lerp(features, self._one, previous.gate, out=previous.gate)
                gradient = product.mul_(previous.gate)

    def _product(
        self, left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Return `left @ right (+ bias)`: in `out`, or somewhere else if that is faster."""
        if out.ndim == 2:
            return linear(left, right.mT, None if bias is None else bias[0])
        if self._is_emulated:
            # Without instructions for it, products in bfloat16 take tens of times as long as
            # these, which round alike.
            product = torch.bmm(left.float(), right.float())
            return out.copy_(product if bias is None else product + bias)
        if bias is None:
            return torch.bmm(left, right, out=out)
        return torch.baddbmm(bias, left, right, out=out)

    def _allocate(self, batch_size: int) -> list[_Layer]:
        # In float32, outputs are not needed beyond the next product: layers of one width take
        # turns with two.
        shared: dict[tuple[int, int], Tensor] = {}
        layers = []
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            ensemble_size, _, width = weight.shape
            shape = (ensemble_size, batch_size, width)
            is_last = index == len(self._weights) - 1
            output = weight.new_empty(shape, dtype=self._dtype)
            if not is_last and not self._is_low:
                output = shared.setdefault((width, index % 2), output)
            assert weight.grad is not None
            assert bias.grad is not None
            layers.append(
                _Layer(
                    self._as_multiplied(weight),
                    self._as_multiplied(bias),
                    self._as_multiplied(weight.grad),
                    self._as_multiplied(bias.grad),
                    output,
                    None if is_last else torch.empty_like(output),
                    None if is_last else torch.empty_like(output),
                )
            )
        return layers

    def _as_multiplied(self, tensor: Tensor) -> Tensor:
        """Return the tensor itself, or room for a low copy of it."""
        return torch.empty_like(tensor, dtype=self._dtype) if self._is_low else tensor

    def _make_parts(self, batch_size: int) -> list[list[_Layer]]:
        work = batch_size * sum(weight[0].numel() for weight in self._weights)
        if not self._can_part or work < MIN_WORK:
            return [self._layers]
        members = range(len(self._weights[0]))
        return [[layer.of(member) for layer in self._layers] for member in members]

    def _parted(self, rows: Tensor) -> Iterable[Tensor]:
        """Return the parts of rows `[E, B, ...]`."""
        return [rows] if self._parts[0] is self._layers else rows


def _keep(product: Tensor, where: Tensor) -> None:
    if product is not where:
        where.copy_(product)
