"""Nested state taken apart into tensors and JSON, and put together again; no pickle.

`pack` moves every tensor and array into a flat dict, named by its path (`state['model'][0]`),
and leaves a skeleton of JSON values. In the skeleton None, bool, str, list, integers up to
2**53 and finite floats stand for themselves; everything else is an object with one telling key:

    {"dict": [[key, value], ...]}           {"tuple": [...]}
    {"int": "0x..."}                        {"float": "nan" | "inf" | "-inf"}
    {"tensor": name}                        {"array": name}
    {"tensor": name, "dtype": ..., "shape": ...}     stored as raw bytes, likewise for "array"
    {"scalar": hex of its bytes, "dtype": ...}       a NumPy scalar
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# What every safetensors version holds natively and NumPy and torch agree on.
_PLAIN_DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
_NATIVE_DTYPES = {*_PLAIN_DTYPES, torch.bfloat16}
_BYTE_DTYPES = {
    getattr(torch, name)
    for name in (
        "uint16", "uint32", "uint64", "complex32", "complex64", "complex128", "float8_e4m3fn",
        "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    )
    if hasattr(torch, name)
}  # fmt: skip
_NATIVE_ARRAY_DTYPES = {torch.empty(0, dtype=dtype).numpy().dtype for dtype in _PLAIN_DTYPES}
_ARRAY_KINDS = "biufcmMSU"
_MAX_PLAIN_INT = 2**53  # beyond, other JSON readers round


def pack(state: object) -> tuple[dict[str, Tensor], Any]:
    """Take `state` apart.

    Allowed, in any nesting: dict with int and str keys (subclasses come back as dict), list,
    tuple, str, int, float, bool, None, dense tensors, NumPy arrays and scalars of numbers,
    bools, times and strings.

    Returns:
        The tensors by name, contiguous copies on the CPU without gradients, and the skeleton
        (JSON values). Tensors that shared memory do not any more.

    Raises:
        TypeError: `state` holds anything else; the message names where.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _pack(state, "state", tensors)


def unpack(tensors: dict[str, Tensor], skeleton: Any, device: torch.device | str = "cpu") -> Any:
    """Put together what `pack` took apart; the result shares no memory with `tensors`.

    Args:
        tensors: the tensors by name.
        skeleton: the JSON values.
        device: where tensors go; arrays stay in NumPy.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: the two were not made by one `pack`.
    """
    if isinstance(skeleton, list):
        return [unpack(tensors, item, device) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    if "dict" in skeleton:
        return {
            unpack(tensors, key, device): unpack(tensors, value, device)
            for key, value in skeleton["dict"]
        }
    if "tuple" in skeleton:
        return tuple(unpack(tensors, item, device) for item in skeleton["tuple"])
    if "int" in skeleton:
        return int(skeleton["int"], 16)
    if "float" in skeleton:
        return float(skeleton["float"])
    if "tensor" in skeleton:
        return _unpack_tensor(tensors[skeleton["tensor"]], skeleton).to(device)
    if "array" in skeleton:
        return _unpack_array(tensors[skeleton["array"]], skeleton)
    if "scalar" in skeleton:
        data = bytes.fromhex(skeleton["scalar"])
        return np.ndarray((), _array_dtype(skeleton["dtype"]), data)[()]
    raise ValueError(f"unknown kind of state: {sorted(skeleton)}")


def _pack(value: object, path: str, tensors: dict[str, Tensor]) -> Any:
    # Exact types: a subclass (an enum, a named tuple) would silently come back as its base.
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if abs(value) <= _MAX_PLAIN_INT else {"int": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list:
        return _pack_items(value, path, tensors)
    if type(value) is tuple:
        return {"tuple": _pack_items(value, path, tensors)}
    if isinstance(value, dict):
        pairs = []
        for key, item in value.items():
            if type(key) not in (int, str):
                raise _refusal(key, f"a key of {path}")
            pairs.append([_pack(key, path, tensors), _pack(item, f"{path}[{key!r}]", tensors)])
        return {"dict": pairs}
    if isinstance(value, Tensor):
        return _pack_tensor(value, path, tensors)
    if type(value) is np.ndarray:
        return _pack_array(value, path, tensors)
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAY_KINDS:
        return {"scalar": value.tobytes().hex(), "dtype": value.dtype.str}
    raise _refusal(value, path)


def _pack_items(
    items: list[Any] | tuple[Any, ...], path: str, tensors: dict[str, Tensor]
) -> list[Any]:
    return [_pack(item, f"{path}[{index}]", tensors) for index, item in enumerate(items)]


def _pack_tensor(tensor: Tensor, path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
        raise _refusal(tensor, path, "a tensor that is not dense")
    if tensor.dtype not in _NATIVE_DTYPES | _BYTE_DTYPES:
        raise _refusal(tensor, path, f"a tensor of {tensor.dtype}")
    dense = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if dense.dtype in _NATIVE_DTYPES:
        tensors[path] = dense
        return {"tensor": path}
    tensors[path] = dense.reshape(-1).view(torch.uint8)
    dtype_name = str(dense.dtype).removeprefix("torch.")
    return {"tensor": path, "dtype": dtype_name, "shape": list(dense.shape)}


def _unpack_tensor(stored: Tensor, leaf: dict[str, Any]) -> Tensor:
    # Torch allocates the copy: its alignment, on which results can depend in the last bit, is
    # then that of any other tensor, and the file it came from may go.
    copy = stored.clone()
    if "dtype" not in leaf:
        return copy
    dtype = getattr(torch, leaf["dtype"], None)
    if not isinstance(dtype, torch.dtype) or dtype not in _BYTE_DTYPES:
        raise ValueError(f"unknown dtype {leaf['dtype']!r}")
    return copy.view(dtype).reshape(leaf["shape"])


def _pack_array(array: NDArray[Any], path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if array.dtype.kind not in _ARRAY_KINDS:
        raise _refusal(array, path, f"an array of dtype {array.dtype}")
    dense = np.array(array, order="C", copy=True)
    if dense.dtype in _NATIVE_ARRAY_DTYPES:
        tensors[path] = torch.from_numpy(dense)
        return {"array": path}
    raw = np.frombuffer(bytearray(dense.tobytes()), np.uint8) if dense.size else np.empty(0, "u1")
    tensors[path] = torch.from_numpy(raw)
    return {"array": path, "dtype": dense.dtype.str, "shape": list(dense.shape)}


def _unpack_array(stored: Tensor, leaf: dict[str, Any]) -> NDArray[Any]:
    array: NDArray[Any] = stored.cpu().numpy().copy()
    if "dtype" not in leaf:
        return array
    return array.view(_array_dtype(leaf["dtype"])).reshape(leaf["shape"])


def _array_dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in _ARRAY_KINDS:
        raise ValueError(f"unknown dtype {name!r}")
    return dtype


def _refusal(value: object, path: str, what: str | None = None) -> TypeError:
    what = what or f"a {type(value).__module__}.{type(value).__qualname__}"
    return TypeError(
        f"cannot store {path}: it is {what}; allowed: dict with int or str keys, list, tuple, "
        "str, int, float, bool, None, dense tensors, NumPy arrays and scalars"
    )
