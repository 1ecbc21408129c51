"""Arrays that hold a dataset: in memory, or in a temporary file where they would not fit."""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mbrl_bilevel.data.replay_buffer import Transitions

DEFAULT_MEMORY_LIMIT = 512 * 2**20
"""Bytes of a set of transitions beyond which it goes to a file: 3 million HalfCheetah steps."""


def empty_transitions(
    num_steps: int,
    obs_size: int,
    action_shape: tuple[int, ...],
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
) -> Transitions:
    """Return N transitions to be filled in.

    Beyond the limit the arrays are mapped from temporary files (in `TMPDIR`), which vanish with
    them: the system then keeps in memory what is in use, and writes out the rest.

    Args:
        num_steps: N.
        obs_size: D_obs.
        action_shape: Shape of one stored action (`ActionCodec.flat_shape`).
        memory_limit: Bytes that may lie in memory.
    """
    action_dtype: DTypeLike = np.float32 if action_shape else np.int64
    layout: list[tuple[tuple[int, ...], DTypeLike]] = [
        ((num_steps, obs_size), np.float32),
        ((num_steps, *action_shape), action_dtype),
        ((num_steps,), np.float32),
        ((num_steps, obs_size), np.float32),
        ((num_steps,), np.bool_),
        ((num_steps,), np.bool_),
    ]
    num_bytes = sum(_num_bytes(shape, dtype) for shape, dtype in layout)
    allocate = _mapped if num_bytes > memory_limit else np.empty
    return Transitions(*(allocate(shape, dtype) for shape, dtype in layout))


def _num_bytes(shape: Sequence[int], dtype: DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _mapped(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    # The mapping outlives the file's name and handle.
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.dtype(dtype), mode="w+", shape=shape)
