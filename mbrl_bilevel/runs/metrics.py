"""Numbers of a run, to metrics.jsonl and to TensorBoard, and pictures to the latter."""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs import strict_json
from mbrl_bilevel.runs.files import os_reason, write_text_atomic

METRICS_FILE = "metrics.jsonl"


class MetricsLogger:
    """Writes `metrics.jsonl` and TensorBoard events into a run folder; a context manager.

    Args:
        run_dir: an existing folder.
        resume_step: None for a new run. To resume from the checkpoint of a step, that step:
            what was logged after it is dropped from both logs. A run that starts again from
            nothing passes -1.

    Raises:
        MBRLError: a new run where metrics.jsonl exists, a resumed one where it is damaged
            (a last line cut short is dropped instead), or the file cannot be written.
    """

    def __init__(self, run_dir: Path, resume_step: int | None = None) -> None:
        self._path = run_dir / METRICS_FILE
        earlier_s = 0.0 if resume_step is None else _truncate(self._path, resume_step)
        try:
            self._file = self._path.open("x" if resume_step is None else "a", encoding="utf-8")
        except FileExistsError as error:
            raise MBRLError(f"{self._path} exists: it belongs to an earlier run") from error
        except OSError as error:
            raise MBRLError(f"cannot write {self._path}: {os_reason(error)}") from error
        purge_step = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(run_dir), purge_step=purge_step)
        self._start = monotonic() - earlier_s

    @property
    def time_s(self) -> float:
        """Seconds that the run has taken so far, those before it was resumed included."""
        return monotonic() - self._start

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record `metrics` (TensorBoard tag -> number) at `step`, counted in environment steps.

        NaN and infinities are null in metrics.jsonl and themselves in TensorBoard.

        Raises:
            MBRLError: a tag is called `step` or `time_s`, the disk is full, or this is closed.
        """
        self._check_open()
        for reserved in ("step", "time_s"):
            if reserved in metrics:
                raise MBRLError(f"metric {reserved!r}: the name is taken; choose another tag")
        values = {tag: float(value) for tag, value in metrics.items()}
        line = strict_json.dumps({"step": int(step), "time_s": round(self.time_s, 3), **values})
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise MBRLError(f"cannot write {self._path}: {os_reason(error)}") from error
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def log_picture(self, step: int, tag: str, path: Path) -> None:
        """Send a PNG file to TensorBoard's images.

        Raises:
            FileNotFoundError: There is no such file.
            MBRLError: This is closed.
        """
        self._check_open()
        _add_picture(self._writer, step, tag, path)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close both logs; a second time does nothing."""
        self._file.close()
        self._writer.close()

    def _check_open(self) -> None:
        if self._file.closed:  # SummaryWriter would quietly start another events file
            raise MBRLError(f"{self._path} is closed: nothing more can be logged")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def log_pictures(folder: Path, step: int, pictures: Mapping[str, Path]) -> None:
    """Send PNG files (TensorBoard tag -> path) to an events file in a folder.

    For pictures without a run's numbers: nothing goes to metrics.jsonl.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with SummaryWriter(str(folder)) as writer:
        for tag, path in pictures.items():
            _add_picture(writer, step, tag, path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl: tags, `step` (int) and `time_s`; null is None.

    A last line cut short, as a killed process leaves it, is left out.

    Raises:
        MBRLError: the file cannot be read, or a line is damaged; the message names it.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise MBRLError(f"cannot read {path}: {os_reason(error)}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = strict_json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise MBRLError(f"{path}, line {number}: not valid JSON ({error})") from error
        if not (
            isinstance(row, dict)
            and type(row.get("step")) is int
            and isinstance(row.get("time_s"), int | float)
        ):
            raise MBRLError(f"{path}, line {number}: not an object with 'step' and 'time_s'")
        rows.append(row)
    return rows


def _truncate(path: Path, last_step: int) -> float:
    """Keep the lines up to `last_step` only; returns the run time at the last one, in s."""
    if not path.exists():
        return 0.0
    kept = [row for row in read_metrics(path) if row["step"] <= last_step]
    write_text_atomic(path, "".join(strict_json.dumps(row) + "\n" for row in kept))
    return max((float(row["time_s"]) for row in kept), default=0.0)


def _add_picture(writer: SummaryWriter, step: int, tag: str, path: Path) -> None:
    from matplotlib.image import imread  # slow to import, and most runs draw nothing

    # Of the file: to draw a figure a second time takes as long as the first.
    writer.add_image(tag, imread(path), step, dataformats="HWC")
