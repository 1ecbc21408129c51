"""How many fits of a figure are done, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def fit_progress(num_fits: int, *, enabled: bool = True) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, else a line at the start; yields what to call after each fit."""
    console = Console(file=sys.stderr)
    if enabled and not sys.stderr.isatty():
        print(f"fitting {num_fits} models", file=sys.stderr, flush=True)
    columns = (
        TextColumn("fitting"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    live = enabled and sys.stderr.isatty() and not console.is_dumb_terminal
    with Progress(*columns, console=console, disable=not live) as progress:
        task = progress.add_task("", total=num_fits)
        yield lambda: progress.advance(task)
