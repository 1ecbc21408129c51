"""Layers of an ensemble's members, evaluated as fast as the processor allows.

On the CPU, large products go one member after the other. With AVX-512, and in bfloat16, they take
oneDNN's linear layer, which adds the bias and applies SiLU while the product is still in the cache.
With AVX2 alone PyTorch's own product is faster. Either way blocks of rows go through all layers
while they are in the cache. Everything else - small products, float64, other devices, inputs that
need a gradient - is one batched product a layer.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mbrl_bilevel.dynamics import onednn
from mbrl_bilevel.dynamics.ensemble import Layers, multi_layer
from mbrl_bilevel.dynamics.leverage import log_leverage

MIN_WORK = 2**22
"""Multiplications in a layer from which on one member at a time is faster (measured: calls of
oneDNN cost some 30 us, which smaller products do not win back)."""

BLOCK_ROWS = 500
"""Rows that go through all layers together, at least half as many (measured: with 200 units the
activations of 500 to 1,000 rows are fastest; fewer rows make small products)."""

LAYER_ROWS = 2000
"""The same of oneDNN's layers (measured on Zen 4: 10,000 rows are 1.25 times as fast so, and up to
2,000 do not gain by smaller blocks)."""


@dataclass(frozen=True)
class _Run:
    """Consecutive places `start` to `stop` of the same member."""

    member: int
    start: int
    stop: int


class MemberLayers:
    """P networks (members of M, repetitions allowed) with SiLU between their layers.

    The fewer changes of member there are from one place to the next, the larger the products.

    Args:
        layers: Weights `[M, in, out]` and biases `[M, 1, out]`.
        indices: Which member is at which place, `[P]`.
        dtype: Of large products on the CPU, `torch.float32` or `torch.bfloat16`; all others are
            computed in the weights' own.
        leverage_root: `[M, F + 1, F + 1]`; see `log_leverage`. None: no leverage is computed.
    """

    def __init__(
        self,
        layers: Layers,
        indices: Tensor,
        dtype: torch.dtype,
        leverage_root: Tensor | None = None,
    ) -> None:
        self._layers = layers
        self._indices = indices
        self._dtype = dtype
        self._leverage_root = leverage_root
        self._gathered: Layers | None = None
        self._packed: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._runs: list[_Run] | None = None
        self._work_a_row = sum(weight[0].numel() for weight, _ in layers) / len(layers)

    def with_dtype(self, dtype: torch.dtype) -> "MemberLayers":
        """Return the same networks with large products in another `dtype`."""
        return MemberLayers(self._layers, self._indices, dtype, self._leverage_root)

    def choose(self, places: Tensor) -> "MemberLayers":
        """Return the networks at some places `[Q]` of these, packed only once for both."""
        indices = self._indices[places]
        other = MemberLayers(self._layers, indices, self._dtype, self._leverage_root)
        other._packed = self._packed
        return other

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return outputs `[P, N, out]` for inputs `[P, N, in]`, and log-leverages `[P, N, 1]`.

        Outputs are in the inputs' dtype or in `dtype`.
        """
        if self._is_large(inputs):
            return self._one_after_the_other(inputs)
        return self._all_at_once(inputs)

    def _all_at_once(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        if self._gathered is None:
            self._gathered = [(w[self._indices], b[self._indices]) for w, b in self._layers]
        *hidden, (weight, bias) = self._gathered
        features = functional.silu(multi_layer(inputs, hidden))
        leverage = None
        if self._leverage_root is not None:
            leverage = log_leverage(features, self._leverage_root[self._indices])
        return torch.baddbmm(bias, features, weight), leverage

    def _is_large(self, inputs: Tensor) -> bool:
        if not inputs.is_cpu or inputs.dtype != torch.float32:
            return False
        if torch.is_grad_enabled() and inputs.requires_grad:
            return False
        rows = inputs.shape[0] * inputs.shape[1] / len(self._all_runs())
        return rows * self._work_a_row >= MIN_WORK

    def _one_after_the_other(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        is_low = self._dtype != torch.float32
        apply = self._in_layers if is_low or onednn.has_wide_vectors() else self._in_blocks
        outputs: list[Tensor] = []
        leverages: list[Tensor] = []
        for run in self._all_runs():
            x = inputs[run.start : run.stop].flatten(0, 1)
            for features, output in apply(x, run.member):
                outputs.append(output)
                if self._leverage_root is not None:
                    # In float32: what is rare in the training data has small features, and they
                    # count.
                    root = self._leverage_root[run.member, None]
                    leverages.append(log_leverage(features[None].float(), root)[0])
        shape = (*inputs.shape[:2], -1)
        leverage = torch.cat(leverages).reshape(shape) if leverages else None
        return torch.cat(outputs).reshape(shape), leverage

    def _in_layers(self, x: Tensor, member: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield last features and outputs of rows `[N, in]`, block by block, by oneDNN."""
        *hidden, (weight, bias) = self._pack(member)
        for block in x.to(self._dtype).chunk(max(1, len(x) // LAYER_ROWS)):
            features = block
            for hidden_weight, hidden_bias in hidden:
                features = onednn.linear(features, hidden_weight, hidden_bias, silu=True)
            yield features, onednn.linear(features, weight, bias)

    def _in_blocks(self, x: Tensor, member: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield last features and outputs of rows `[N, in]`, block by block, by PyTorch."""
        *hidden, (weight, bias) = [(w[member], b[member, 0]) for w, b in self._layers]
        for block in x.chunk(max(1, len(x) // BLOCK_ROWS)):
            features = block
            for hidden_weight, hidden_bias in hidden:
                output = torch.addmm(hidden_bias, features, hidden_weight)
                features = functional.silu(output, inplace=True)
            yield features, torch.addmm(bias, features, weight)

    def _all_runs(self) -> list[_Run]:
        if self._runs is None:
            self._runs = []
            start = 0
            for member, places in itertools.groupby(self._indices.tolist()):
                stop = start + len(list(places))
                self._runs.append(_Run(member, start, stop))
                start = stop
        return self._runs

    def _pack(self, member: int) -> list[tuple[Tensor, Tensor]]:
        """Return a member's layers as `onednn.linear` takes them."""
        if member not in self._packed:
            self._packed[member] = [
                (
                    onednn.pack(weights[member].t().contiguous().to(self._dtype)),
                    biases[member, 0].to(self._dtype),
                )
                for weights, biases in self._layers
            ]
        return self._packed[member]
