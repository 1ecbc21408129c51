"""oneDNN's linear layer: whether it is there, where it is the faster one, and how it is called.

PyTorch has no public name for it: where it is missing, or does not compute what it should, ordinary
products take its place.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mbrl_bilevel.config import Precision

CHECK_SHAPE = (33, 24, 40)
"""Rows, inputs and outputs of the layer that oneDNN is checked on: no multiples of its blocks."""

AMX_ROWS = 64
"""Rows of a member's batch from which on updates in bfloat16 are faster by AMX (measured with four
layers of 200: float32 takes .84 of their time with 32 rows, as much with 64, 1.17 with 96)."""


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


def update_dtype(precision: Precision, batch_size: int) -> torch.dtype:
    """Return the dtype of the products in updates on batches of `batch_size` rows a member.

    `large_dtype`, but for `auto` with small batches where bfloat16 is by AMX: float32 is faster.
    """
    if precision == "auto" and batch_size < AMX_ROWS and _has_any("amx_bf16"):
        return torch.float32
    return large_dtype(precision)


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


def pack(weight: Tensor) -> Tensor:
    """Return a weight `[out, in]` for many calls of `linear`: packed by oneDNN if it is there."""
    if not has_fused_linear(weight.dtype):
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, silu: bool = False) -> Tensor:
    """Return `x @ weight.T (+ bias)`, and SiLU of that, by oneDNN where it is there.

    Args:
        x: `[N, in]`.
        weight: `[out, in]`, packed (`pack`) or not.
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
