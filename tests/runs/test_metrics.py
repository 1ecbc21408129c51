import json
import math
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs.metrics import MetricsLogger, log_pictures, read_metrics


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("mbrl_bilevel.runs.metrics.monotonic", clock)
    return clock


def scalars(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(run_dir))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_lines_and_events(tmp_path: Path, clock: _Clock) -> None:
    with MetricsLogger(tmp_path) as logger:
        clock.now += 1.5
        logger.log(10, {"rollout/ep_rew_mean": -1.5, "time/fps": 100})
        clock.now += 0.25
        logger.log(20, {"rollout/ep_rew_mean": np.float32(0.5)})  # type: ignore[dict-item]
        logger.log(20, {"model/val_nll": torch.tensor(2.0)})  # type: ignore[dict-item]
        assert logger.time_s == 1.75
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 10, "time_s": 1.5, "rollout/ep_rew_mean": -1.5, "time/fps": 100.0},
        {"step": 20, "time_s": 1.75, "rollout/ep_rew_mean": 0.5},
        {"step": 20, "time_s": 1.75, "model/val_nll": 2.0},
    ]
    assert scalars(tmp_path, "rollout/ep_rew_mean") == [(10, -1.5), (20, 0.5)]
    assert scalars(tmp_path, "model/val_nll") == [(20, 2.0)]


def test_what_is_logged_is_on_disk_at_once(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path) as logger:
        logger.log(1, {"a": 1.0})
        assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
        assert scalars(tmp_path, "a") == [(1, 1.0)]


def test_nan_is_null_in_json_and_itself_in_tensorboard(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path) as logger:
        logger.log(1, {"a": math.nan, "b": -math.inf, "c": 1.0})
    line = (tmp_path / "metrics.jsonl").read_text()
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert (row["a"], row["b"], row["c"]) == (None, None, 1.0)
    assert math.isnan(scalars(tmp_path, "a")[0][1])
    assert scalars(tmp_path, "b") == [(1, -math.inf)]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG file of 100 x 50 pixels."""
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([0, 1])
    path = tmp_path / "picture.png"
    figure.savefig(path)
    return path


def test_pictures(tmp_path: Path, picture: Path) -> None:
    with MetricsLogger(tmp_path) as logger:
        logger.log_picture(5, "plots/model", picture)
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    (image,) = accumulator.Images("plots/model")
    assert (image.step, image.width, image.height) == (5, 100, 50)
    shown = imread(BytesIO(image.encoded_image_string))
    assert np.array_equal(shown, imread(picture))
    assert 0 < shown.mean() < 1


def test_pictures_without_numbers(tmp_path: Path, picture: Path) -> None:
    for step in (5, 7):
        log_pictures(tmp_path, step, {"plots/a": picture, "plots/b": picture})
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.Tags()["images"] == ["plots/a", "plots/b"]
    assert [image.step for image in accumulator.Images("plots/b")] == [5, 7]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_resume_drops_what_came_after_the_checkpoint(tmp_path: Path, clock: _Clock) -> None:
    with MetricsLogger(tmp_path) as logger:
        for step in (10, 20, 30, 40):
            clock.now += 1
            logger.log(step, {"a": float(step)})
    clock.now += 1000
    time.sleep(1.1)  # TensorBoard reads its files in the order of their names: whole seconds
    with MetricsLogger(tmp_path, resume_step=20) as logger:
        assert logger.time_s == 2.0
        clock.now += 0.5
        logger.log(30, {"a": -30.0})
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["a"], row["time_s"]) for row in rows] == [
        (10, 10.0, 1.0),
        (20, 20.0, 2.0),
        (30, -30.0, 2.5),
    ]
    assert scalars(tmp_path, "a") == [(10, 10.0), (20, 20.0), (30, -30.0)]
    leftovers = [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")]
    assert leftovers == []


def test_resume_from_nothing_drops_everything(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path) as logger:
        logger.log(0, {"a": 1.0})
        logger.log(1, {"a": 1.0})
    with MetricsLogger(tmp_path, resume_step=-1) as logger:
        logger.log(0, {"a": 2.0})
    assert [row["a"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2.0]
    assert scalars(tmp_path, "a") == [(0, 2.0)]


def test_resume_without_a_file(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path, resume_step=10) as logger:
        logger.log(20, {"a": 2.0})
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [20]


@pytest.mark.parametrize("tail", [b'{"step": 2, "ti', b"\x00\x00\x00", b"\xff", b'{"step": 2}\n{'])
def test_resume_drops_a_broken_last_line(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = b'{"step": 1, "time_s": 0.5, "a": 1.0}\n'
    broken_before_last = tail.count(b"\n") > 0
    path.write_bytes(whole + tail)
    if broken_before_last:
        with pytest.raises(MBRLError, match="line 2: not an object with 'step' and 'time_s'"):
            MetricsLogger(tmp_path, resume_step=10)
        assert path.read_bytes() == whole + tail
        return
    assert [row["step"] for row in read_metrics(path)] == [1]
    with MetricsLogger(tmp_path, resume_step=10) as logger:
        logger.log(11, {"a": 2.0})
    assert path.read_bytes().startswith(whole)
    assert [row["step"] for row in read_metrics(path)] == [1, 11]


def test_a_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "time_s": 0.5}')
    with MetricsLogger(tmp_path, resume_step=1) as logger:
        logger.log(2, {})
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "time_s": 0}\n{"step": NaN}\n{"step": 3, "time_s": 1}\n')
    with pytest.raises(MBRLError, match=r"metrics.jsonl, line 2: not valid JSON \(NaN"):
        read_metrics(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MBRLError, match=r"cannot read .*metrics.jsonl: No such file"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_a_new_run_does_not_touch_an_old_one(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path) as logger:
        logger.log(1, {"a": 1.0})
    before = sorted(entry.name for entry in tmp_path.iterdir())
    with pytest.raises(MBRLError, match=r"metrics.jsonl exists: it belongs to an earlier run"):
        MetricsLogger(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
    with pytest.raises(MBRLError, match=r"cannot write .*No such file"):
        MetricsLogger(tmp_path / "nowhere")


@pytest.mark.parametrize("tag", ["step", "time_s"])
def test_reserved_tags_are_refused(tmp_path: Path, tag: str) -> None:
    with (
        MetricsLogger(tmp_path) as logger,
        pytest.raises(MBRLError, match=f"metric '{tag}': the name is taken"),
    ):
        logger.log(1, {tag: 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_after_closing_nothing_is_logged(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    logger.close()
    logger.close()
    num_files = len(list(tmp_path.iterdir()))
    with pytest.raises(MBRLError, match="is closed"):
        logger.log(1, {"a": 1.0})
    with pytest.raises(MBRLError, match="is closed"):
        logger.log_picture(1, "a", tmp_path / "a.png")
    assert len(list(tmp_path.iterdir())) == num_files
