"""Writing videos."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.evaluation.files import replacing


def write_mp4(frames: Sequence[NDArray[np.uint8]], path: Path, fps: float) -> None:
    """Write an H.264 video that every browser plays (libx264, yuv420p), all of it or nothing.

    Args:
        frames: uint8 `[height, width, 3]`, all of one shape. Odd sizes, which yuv420p cannot
            store, get a black row or column more.
        path: ends in .mp4; missing folders are made.
        fps: frames a second, above 0; an environment's own is `env.metadata["render_fps"]`.

    Raises:
        ValueError: no frames, a frame of another shape or type, no .mp4, or `fps` not above 0.
    """
    if not len(frames):
        raise ValueError(f"no frames to write to {path}")
    if path.suffix != ".mp4":
        raise ValueError(f"the video's name must end in .mp4, got {path}")
    if not fps > 0:
        raise ValueError(f"fps must be above 0, got {fps}")
    for i, frame in enumerate(frames):
        _check_frame(i, frame, frames[0].shape)

    height, width, _ = frames[0].shape
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    with (
        replacing(path) as temporary,
        closing(
            imageio.get_writer(
                temporary,
                format="FFMPEG",
                mode="I",
                fps=fps,
                codec="libx264",
                pixelformat="yuv420p",
                macro_block_size=1,  # by default, imageio rescales to multiples of 16
                ffmpeg_log_level="error",
            )
        ) as writer,
    ):
        for frame in frames:
            writer.append_data(np.pad(frame, padding))


def _check_frame(i: int, frame: NDArray[Any], shape: tuple[int, ...]) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        raise ValueError(
            f"frame {i} must be uint8 (height, width, 3), got {frame.dtype} {frame.shape}"
        )
    if frame.shape != shape:
        raise ValueError(f"frame {i} has shape {frame.shape}, the first one {shape}")
