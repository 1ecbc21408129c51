"""JSON that every reader accepts: no NaN, no Infinity."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np


def dumps(value: object, indent: int | None = None) -> str:
    """Write `value` as strict JSON: NaN and infinities as null, NumPy scalars as plain numbers.

    Raises:
        TypeError: something inside has no JSON form.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Parse strict JSON.

    Raises:
        ValueError: `text` is not strict JSON (the constants NaN and Infinity included).
    """
    return json.loads(text, parse_constant=_reject_constant)


def _finite(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")
