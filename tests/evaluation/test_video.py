import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imageio.plugins.ffmpeg import get_exe
from numpy.typing import NDArray

from mbrl_bilevel.evaluation import write_mp4


def make_frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    return [np.full((height, width, 3), 20 * i, np.uint8) for i in range(count)]


def read_mp4(path: Path, height: int, width: int) -> tuple[NDArray[np.uint8], str]:
    """The frames `[T, height, width, 3]`, and how ffmpeg describes the file."""
    ffmpeg = get_exe()  # type: ignore[no-untyped-call]
    command = [ffmpeg, "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    pixels = np.frombuffer(result.stdout, np.uint8)
    return pixels.reshape(-1, height, width, 3), result.stderr.decode()


@pytest.mark.parametrize(("height", "width", "padded"), [(64, 96, (64, 96)), (63, 95, (64, 96))])
def test_frames_are_read_back(
    height: int, width: int, padded: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "videos" / "episode.mp4"
    write_mp4(make_frames(7, height, width), path, fps=10)
    video, description = read_mp4(path, *padded)
    assert len(video) == 7
    np.testing.assert_allclose(video[:, 30, 30].mean(axis=1), 20 * np.arange(7), atol=4)
    for expected in ("h264", "yuv420p", f"{padded[1]}x{padded[0]}", "10 fps"):
        assert expected in description
    assert [file.name for file in path.parent.iterdir()] == ["episode.mp4"]


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        ([], {}, "no frames to write to .*episode.mp4"),
        ([np.zeros((4, 4, 3))], {}, r"frame 0 must be uint8 .*, got float64 \(4, 4, 3\)"),
        ([np.zeros((4, 4), np.uint8)], {}, r"frame 0 must be uint8 .*, got uint8 \(4, 4\)"),
        ([*make_frames(1, 4, 4), *make_frames(1, 4, 6)], {}, r"frame 1 has shape \(4, 6, 3\)"),
        (make_frames(1, 4, 4), {"fps": 0}, "fps must be above 0, got 0"),
        (make_frames(1, 4, 4), {"name": "episode.txt"}, "must end in .mp4, got .*episode.txt"),
    ],
)
def test_bad_input_writes_nothing(
    frames: list[NDArray[Any]], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / settings.get("name", "episode.mp4")
    with pytest.raises(ValueError, match=message):
        write_mp4(frames, path, settings.get("fps", 10))
    assert not list(tmp_path.iterdir())
