"""Layers of an ensemble's members, evaluated as fast as the processor allows.

On the CPU, large products go one member after the other. With AVX-512, and in bfloat16, they take
oneDNN's linear layer, which adds the bias and applies SiLU while the product is still in the cache.
PyTorch has no public name for it: where it is missing, or does not compute what it should, ordinary
linear layers take its place. With AVX2 alone PyTorch's own product is faster. Either way blocks of
rows go through all layers while they are in the cache. Everything else - small products, float64,
other devices, inputs that need a gradient - is one batched product a layer.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mbrl_bilevel.config import Precision
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

CHECK_SHAPE = (33, 24, 40)
"""Rows, inputs and outputs of the layer that oneDNN is checked on: no multiples of its blocks."""


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
        apply = self._in_layers if is_low or has_wide_vectors() else self._in_blocks
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
                features = linear(features, hidden_weight, hidden_bias, silu=True)
            yield features, linear(features, weight, bias)

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
        """Return a member's layers as `linear` takes them."""
        if member not in self._packed:
            fused = has_fused_linear(self._dtype)
            layers = []
            for weights, biases in self._layers:
                weight = weights[member].t().contiguous().to(self._dtype)
                if fused:
                    weight = torch.ops.mkldnn._reorder_linear_weight(weight)
                layers.append((weight, biases[member, 0].to(self._dtype)))
            self._packed[member] = layers
        return self._packed[member]


def large_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of large products on the CPU.

    `auto` is bfloat16 where the processor multiplies in it, float32 elsewhere. The processor's
    instructions decide, not a stopwatch: with a measured choice, one seed could give two results on
    one machine. On those processors bfloat16 takes half to two thirds of the time; on others its
    products are emulated, and slower.
    """
    if precision == "auto":
        return torch.bfloat16 if multiplies_bfloat16() else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@cache
def multiplies_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16 (AVX-512 BF16, AMX), by oneDNN."""
    return has_fused_linear(torch.bfloat16) and _has_any("avx512_bf16", "amx_bf16")


@cache
def has_wide_vectors() -> bool:
    """Return whether float32 products of oneDNN, with SiLU in them, are faster than PyTorch's own.

    With AVX-512 they are; with AVX2 alone they take an eighth longer (measured on Zen 3).
    """
    return has_fused_linear(torch.float32) and _has_any("avx512_f")


@cache
def prefers_onednn() -> bool:
    """Return whether float32 products of oneDNN are much faster than PyTorch's own, bare ones too.

    MKL takes no AVX-512 on AMD's processors. From Zen 5 on, which is known by an instruction here,
    that is half of what they can do (250 GFLOP/s against 110, measured); before, AVX-512 went
    through the same units twice.
    """
    is_amd = str(_capabilities().get("cpu_name", "")).startswith("AMD")
    return is_amd and has_fused_linear(torch.float32) and _has_any("avx512_vp2intersect")


def _has_any(*instructions: str) -> bool:
    return any(_capabilities().get(name, False) for name in instructions)


def _capabilities() -> dict[str, Any]:
    get_capabilities = getattr(torch.cpu, "get_capabilities", dict)  # not in older versions
    capabilities: dict[str, Any] = get_capabilities()
    return capabilities


@cache
def has_fused_linear(dtype: torch.dtype) -> bool:
    """Return whether oneDNN's linear layer is there and right, by one small example."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    rows, fan_in, fan_out = CHECK_SHAPE
    # Numbers without a generator: spread over -1 to 1, and no two rows alike.
    x = torch.linspace(0, 100, rows * fan_in).sin().reshape(rows, fan_in)
    weight = torch.linspace(1, 90, fan_out * fan_in).cos().reshape(fan_out, fan_in)
    bias = torch.linspace(-1, 1, fan_out)
    low = [tensor.to(dtype) for tensor in (x, weight, bias)]
    expected = functional.linear(*(tensor.float() for tensor in low))
    # One rounding of the result to `dtype`, and sums in another order.
    tolerance = max(2 * torch.finfo(dtype).eps, 1e-5)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(low[1])
        for silu in (False, True):
            found = _fused_linear(low[0], packed, low[2], silu=silu).float()
            wanted = functional.silu(expected) if silu else expected
            if not torch.allclose(found, wanted, rtol=tolerance, atol=tolerance):
                return False
    except (AttributeError, RuntimeError, TypeError):  # not in this build, or called otherwise
        return False
    return True


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, silu: bool = False) -> Tensor:
    """Return `x @ weight.T (+ bias)`, and SiLU of that, by oneDNN where it is there.

    Args:
        x: `[N, in]`.
        weight: `[out, in]`; as oneDNN packs it, if it does.
        bias: `[out]`.
        silu: Whether the result goes through SiLU.
    """
    if has_fused_linear(x.dtype):
        return _fused_linear(x, weight, bias, silu=silu)
    # Without oneDNN products in bfloat16 take tens of times as long as these, which round alike.
    low_bias = None if bias is None else bias.float()
    output = functional.linear(x.float(), weight.float(), low_bias)
    return (functional.silu(output, inplace=True) if silu else output).to(x.dtype)


def _fused_linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, silu: bool) -> Tensor:
    activation = "swish" if silu else "none"
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")
    return output
