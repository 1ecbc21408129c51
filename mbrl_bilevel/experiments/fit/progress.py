"""How far a fit has come, on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class FitProgress:
    """What to call while models are trained; see `fit_progress`."""

    def __init__(
        self,
        progress: Progress,
        num_models: int,
        num_updates: int,
        num_finished: int,
        plain: bool,
    ) -> None:
        self._progress = progress
        self._num_models = num_models
        self._num_updates = num_updates
        self._plain = plain
        self._num_finished = num_finished
        total, completed = num_models * num_updates, num_finished * num_updates
        self._task = progress.add_task("", total=total, completed=completed, model="")

    def update(self, label: str, seed: int, num_updates: int) -> None:
        """Show the updates made of the current model."""
        completed = self._num_finished * self._num_updates + num_updates
        self._progress.update(self._task, completed=completed, model=f"{label}, seed {seed}")

    def finish(self, row: dict[str, Any]) -> None:
        """Show that a model is finished, and how good it is."""
        self._num_finished += 1
        line = (
            f"{self._num_finished}/{self._num_models}  {row['objective']}, seed {row['seed']}: "
            f"rmse {row['rmse']:.4f}, nll {row['nll']:.4f}, "
            f"90% coverage {row['coverage_90']:.3f} ({row['wall_time_s']:.1f} s)"
        )
        if self._plain:
            print(line, file=sys.stderr, flush=True)
        else:
            self._progress.console.print(line, markup=False, highlight=False)


@contextmanager
def fit_progress(
    num_models: int, num_updates: int, *, num_finished: int = 0, enabled: bool = True
) -> Iterator[FitProgress]:
    """Show a bar on a terminal, and a line after each model.

    Args:
        num_models: Objectives times seeds.
        num_updates: Of each.
        num_finished: Models that an earlier part of the fit left.
        enabled: False shows nothing.
    """
    console = Console(file=sys.stderr, quiet=not enabled)
    live = enabled and sys.stderr.isatty() and not console.is_dumb_terminal
    columns = (
        TextColumn("fitting {task.fields[model]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not live) as progress:
        plain = enabled and not live
        yield FitProgress(progress, num_models, num_updates, num_finished, plain)
