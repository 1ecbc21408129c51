"""How far a comparison has come, on stderr."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mbrl_bilevel.experiments.compare.cell_run import Outcome
from mbrl_bilevel.experiments.compare.cells import Cell
from mbrl_bilevel.runs import RunDir

REFRESH_S = 1.0
TAIL_BYTES = 4096


class CompareProgress:
    """What to call while cells run; see `compare_progress`."""

    def __init__(self, progress: Progress, num_cells: int, num_finished: int, *, plain: bool):
        self._progress = progress
        self._num_cells = num_cells
        self._num_finished = num_finished
        self._plain = plain
        self._all = progress.add_task("cells", total=num_cells, completed=num_finished, note="")
        self._running: dict[Path, tuple[Cell, TaskID]] = {}
        self._refreshed = 0.0

    def start(self, cell: Cell) -> None:
        """Show a cell that was handed out."""
        if cell.folder not in self._running:
            total = cell.config.total_timesteps
            task = self._progress.add_task(cell.name, total=total, note="", visible=False)
            self._running[cell.folder] = (cell, task)

    def restart(self, cell: Cell, reason: str) -> None:
        """Show that a cell is tried again."""
        self._say(f"{cell.name}: {reason}, tried again")

    def finish(self, cell: Cell, outcome: Outcome) -> None:
        """Show what came out of a cell."""
        self._num_finished += 1
        if cell.folder in self._running:
            self._progress.remove_task(self._running.pop(cell.folder)[1])
        self._progress.update(self._all, completed=self._num_finished)
        if outcome["status"] == "completed":
            said = f"{outcome['eval_return_mean']:.1f} ({outcome['wall_time_s']:.0f} s)"
        else:
            said = f"failed: {outcome.get('error', outcome['status'])}"
        self._say(f"{self._num_finished}/{self._num_cells}  {cell.name}: {said}")

    def refresh(self) -> None:
        """Read how far the running cells are, every now and then."""
        if self._plain or time.monotonic() - self._refreshed < REFRESH_S:
            return
        self._refreshed = time.monotonic()
        for cell, task in self._running.values():
            step, last_return = _last_episode(RunDir(cell.folder).metrics_path)
            if step:
                note = "" if last_return is None else f"last return {last_return:.1f}"
                self._progress.update(task, completed=step, note=note, visible=True)

    def _say(self, line: str) -> None:
        if self._plain:
            print(line, file=sys.stderr, flush=True)
        else:
            self._progress.console.print(line, markup=False, highlight=False)


@contextmanager
def compare_progress(
    num_cells: int, num_finished: int, *, enabled: bool = True
) -> Iterator[CompareProgress]:
    """Show a bar for all cells and one for each that runs, and a line after each."""
    console = Console(file=sys.stderr, quiet=not enabled)
    live = enabled and sys.stderr.isatty() and not console.is_dumb_terminal
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not live) as progress:
        yield CompareProgress(progress, num_cells, num_finished, plain=enabled and not live)


def _last_episode(path: Path) -> tuple[int, float | None]:
    """Return the last step logged, and the last return among the last lines, if there is one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:  # not there yet, or on another machine
        return 0, None
    step, last_return = 0, None
    for line in lines:
        try:
            row: Any = json.loads(line)
        except ValueError:  # cut short
            continue
        if isinstance(row, dict):
            step = row.get("step", step)
            last_return = row.get("rollout/ep_rew", last_return)
    return step, last_return
