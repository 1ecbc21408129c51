"""The folder of one training run."""

import contextlib
import importlib.metadata
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import mbrl_bilevel
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs import strict_json
from mbrl_bilevel.runs.files import os_reason, write_json_atomic
from mbrl_bilevel.runs.metrics import METRICS_FILE

_RUN_NAME = re.compile(r"(\d{8}-\d{6})-s(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class RunDir:
    """Where the parts of a run lie, below `path`."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved configuration; `train` on it repeats the run."""
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a logged step."""
        return self.path / METRICS_FILE

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def videos(self) -> Path:
        """The folder of the mp4 files."""
        return self.path / "videos"

    @property
    def plots(self) -> Path:
        """The folder of the PNG files."""
        return self.path / "plots"

    @property
    def summary_path(self) -> Path:
        """What came out of the run, as JSON."""
        return self.path / "summary.json"

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the folder and those in it; `path` may exist if it holds no run.

        Raises:
            MBRLError: `path` holds a run, or cannot be written; nothing is left behind.
        """
        run = cls(path)
        made: list[Path] = []
        try:
            if run._holds_a_run():
                raise MBRLError(
                    f"{path} already holds a run; continue it with --resume, or name another "
                    "folder with --run-dir"
                )
            for folder in (run.checkpoints, run.videos, run.plots):
                _make_folders(folder, made)
        except OSError as error:
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise MBRLError(f"cannot make the run folder {path}: {os_reason(error)}") from error
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """An existing run.

        Raises:
            MBRLError: there is no config.yaml in `path`.
        """
        run = cls(path)
        if not run.config_path.is_file():
            raise MBRLError(f"{path} is not a run folder: it has no config.yaml")
        return run

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json in one step, as strict JSON (NaN and infinities as null).

        Raises:
            MBRLError: the file cannot be written.
            TypeError: `summary` holds something without a JSON form.
        """
        write_json_atomic(self.summary_path, summary)

    def read_summary(self) -> dict[str, Any]:
        """The content of summary.json.

        Raises:
            MBRLError: it is missing (the run has not ended) or damaged.
        """
        try:
            summary = strict_json.loads(self.summary_path.read_bytes())
        except OSError as error:
            raise MBRLError(f"cannot read {self.summary_path}: {os_reason(error)}") from error
        except ValueError as error:
            raise MBRLError(f"{self.summary_path} is not valid JSON: {error}") from error
        if not isinstance(summary, dict):
            raise MBRLError(f"{self.summary_path} does not hold a JSON object")
        return summary

    def _holds_a_run(self) -> bool:
        if self.config_path.exists() or self.metrics_path.exists():
            return True
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())


def default_run_path(root: Path, config_name: str, seed: int, now: datetime) -> Path:
    """A free path `<root>/<config>/<date-time>-s<seed>`, with -2, -3, ... where that is taken."""
    first = root / config_name / f"{now:%Y%m%d-%H%M%S}-s{seed}"
    path, number = first, 1
    while path.exists():
        number += 1
        path = first.with_name(f"{first.name}-{number}")
    return path


def latest_run(root: Path, config_name: str) -> Path | None:
    """The run of a configuration that was started last, by its name; None if there is none."""
    folder = root / config_name
    if not folder.is_dir():
        return None
    runs = [path for path in folder.iterdir() if (path / "config.yaml").is_file()]
    named = [(match, path) for path in runs if (match := _RUN_NAME.fullmatch(path.name))]
    if not named:
        return None
    return max(named, key=lambda pair: (pair[0][1], int(pair[0][3] or 1), int(pair[0][2])))[1]


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what a run's numbers depend on."""
    found = {"python": platform.python_version(), "mbrl-bilevel": mbrl_bilevel.__version__}
    for name in ("torch", "numpy", "gymnasium", "mujoco"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _make_folders(folder: Path, made: list[Path]) -> None:
    """Make `folder` and what is missing above it, noting in `made` what is new."""
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir()
        made.append(path)
