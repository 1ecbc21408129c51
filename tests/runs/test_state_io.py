import collections
import enum
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from mbrl_bilevel.runs.state_io import pack, unpack


def through_json(state: object) -> Any:
    tensors, skeleton = pack(state)
    return unpack(tensors, json.loads(json.dumps(skeleton, allow_nan=False)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**53,
        2**53 + 1,
        -(2**128) + 1,
        0.1,
        5e-324,
        math.inf,
        -math.inf,
        "",
        "höhe\n\ud800",
        [],
        (),
        {},
        [(), [], {}],
        (1, (2.5, [None, (True,)])),
        {0: "int", "0": "str", "tuple": (1,), "dict": [["a", 1]], "int": {"float": "nan"}},
        {10**30: 1},
    ],
)
def test_plain_values_come_back_equal_and_of_the_same_types(value: object) -> None:
    back = through_json(value)
    assert back == value
    assert repr(back) == repr(value)


def test_integers_longer_than_python_writes_in_decimal() -> None:
    assert through_json(-(1 << 20_000) + 1) == -(1 << 20_000) + 1


def test_nan_and_negative_zero() -> None:
    nan, zero = through_json([math.nan, -0.0])
    assert math.isnan(nan)
    assert math.copysign(1.0, zero) == -1.0


def test_order_of_keys_is_kept() -> None:
    assert list(through_json({"b": 1, 2: 2, "a": 3, 1: 4})) == ["b", 2, "a", 1]


def test_subclasses_of_dict_become_dict() -> None:
    back = through_json(collections.OrderedDict(a=1))
    assert type(back) is dict
    assert back == {"a": 1}


TORCH_DTYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
    "bool", "uint16", "uint32", "uint64", "complex32", "complex64", "complex128", "float8_e5m2",
    "float8_e4m3fn",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
@pytest.mark.parametrize("name", TORCH_DTYPES)
def test_tensor_dtypes_and_shapes(name: str, shape: tuple[int, ...]) -> None:
    dtype = getattr(torch, name)
    num_bytes = math.prod(shape) * dtype.itemsize
    raw = torch.arange(num_bytes, dtype=torch.int64).remainder(2).to(torch.uint8)
    tensor = raw.view(dtype).reshape(shape)
    back = through_json(tensor)
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert torch.equal(back.reshape(-1).view(torch.uint8), raw)


def test_tensor_bits_are_kept() -> None:
    bits = torch.tensor([0x7FC00001, -1, 0x7F800001, 1], dtype=torch.int32)  # NaNs, a denormal
    assert torch.equal(through_json(bits.view(torch.float32)).view(torch.int32), bits)


def test_views_and_shared_storage_come_back_as_separate_tensors() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"whole": base, "same": base, "column": base[:, 1], "turned": base.t()}
    tensors, skeleton = pack(state)
    base.zero_()
    back = unpack(tensors, skeleton)
    expected = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(back["whole"], expected)
    assert torch.equal(back["column"], expected[:, 1])
    assert torch.equal(back["turned"], expected.t())
    back["whole"].zero_()
    assert torch.equal(back["same"], expected)
    assert all(tensor.is_contiguous() for tensor in tensors.values())


def test_result_shares_no_memory_with_the_tensors() -> None:
    tensors, skeleton = pack([torch.ones(2), torch.ones(2, dtype=torch.complex128), np.ones(2)])
    back = unpack(tensors, skeleton)
    for tensor in tensors.values():
        tensor.zero_()
    assert torch.equal(back[0], torch.ones(2))
    assert torch.equal(back[1], torch.ones(2, dtype=torch.complex128))
    np.testing.assert_array_equal(back[2], np.ones(2))


def test_conjugate_views_and_parameters() -> None:
    conjugate = torch.tensor([1 + 2j]).conj()
    assert torch.equal(through_json(conjugate), torch.tensor([1 - 2j]))
    tensors, _ = pack({"negative": conjugate.imag})  # torch notes the sign, and flips no bits
    assert not tensors["state['negative']"].is_neg()
    assert tensors["state['negative']"].tolist() == [-2.0]
    back = through_json(torch.nn.Parameter(torch.ones(2)))
    assert type(back) is torch.Tensor
    assert not back.requires_grad


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(2.5),
        np.array([True, False]),
        np.arange(4, dtype=np.uint16),
        np.arange(4, dtype=np.uint64) + np.uint64(2**63),
        np.array([1 + 2j]),
        np.array([1.5, math.nan], dtype=">f8"),
        np.array([1.5], dtype=np.longdouble),
        np.array(["a", "höhe"]),
        np.array([b"ab", b"c"]),
        np.array(["2024-01-01", "NaT"], dtype="datetime64[s]"),
        np.array([3], dtype="timedelta64[ns]"),
        np.empty((0, 3), dtype=np.float32),
        np.empty((2, 0), dtype=np.uint32),
        np.empty(0, dtype="<U5"),
        np.arange(6).reshape(2, 3).T,
        np.arange(10)[::-2],
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays(array: np.ndarray[Any, Any]) -> None:
    back = through_json(array)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(0.1),
        np.float32("nan"),
        np.int64(-1),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.complex64(1 + 2j),
        np.str_("höhe"),
        np.str_(""),
        np.bytes_(b"ab"),
        np.datetime64("2024-01-01"),
    ],
    ids=repr,
)
def test_scalars_keep_their_type(scalar: np.generic) -> None:
    back = through_json(scalar)
    assert type(back) is type(scalar)
    assert back.dtype == scalar.dtype
    assert back.tobytes() == scalar.tobytes()


def test_keys_that_could_be_confused_do_not_collide() -> None:
    state = {
        "a.b": torch.tensor(0),
        "a": {"b": torch.tensor(1)},
        "0": torch.tensor(2),
        0: torch.tensor(3),
        "x'][0]": torch.tensor(4),
        "x": [torch.tensor(5)],
        "__metadata__": torch.tensor(6),
        "\ud800": torch.tensor(7),
    }
    back = through_json(state)
    found = [back["a.b"], back["a"]["b"], back["0"], back[0], back["x'][0]"], back["x"][0]]
    assert [int(tensor) for tensor in found] == [0, 1, 2, 3, 4, 5]
    assert [int(back["__metadata__"]), int(back["\ud800"])] == [6, 7]


class _Colour(enum.IntEnum):
    RED = 1


_Point = collections.namedtuple("_Point", ["x"])


@pytest.mark.parametrize(
    ("culprit", "what"),
    [
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
        (b"raw", "builtins.bytes"),
        (1j, "builtins.complex"),
        (len, "builtins.builtin_function_or_method"),
        (_Colour.RED, "_Colour"),
        (_Point(1), "_Point"),
        (torch.Size([1]), "torch.Size"),
        (np.array([None]), "an array of dtype object"),
        (np.zeros(1, dtype=[("x", "f4")]), "an array of dtype"),
        (np.ma.masked_array([1.0]), "MaskedArray"),
        (torch.ones(2, 2).to_sparse(), "a tensor that is not dense"),
        (torch.ones(2, device="meta"), "a tensor that is not dense"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_refused_by_its_path(culprit: object, what: str) -> None:
    with pytest.raises(TypeError, match=what) as caught:
        pack({"agent": [0, {"buffer": (culprit,)}]})
    assert "state['agent'][1]['buffer'][0]" in str(caught.value)


@pytest.mark.parametrize("key", [None, 1.5, (1, 2), True, np.int64(1)])
def test_other_keys_are_refused(key: object) -> None:
    with pytest.raises(TypeError, match=r"a key of state\['x'\]"):
        pack({"x": {key: 1}})


@pytest.mark.parametrize(
    "skeleton",
    [
        {"unknown": 1},
        {"tensor": "state"},
        {"array": "x", "dtype": "O", "shape": [1]},
        {"tensor": "x", "dtype": "save", "shape": [1]},
    ],
)
def test_a_skeleton_that_does_not_fit_raises(skeleton: Any) -> None:
    with pytest.raises((KeyError, ValueError)):
        unpack({"x": torch.zeros(8, dtype=torch.uint8)}, skeleton)
