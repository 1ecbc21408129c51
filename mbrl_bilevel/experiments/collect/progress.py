"""How many episodes of a collection are recorded, on stderr."""

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

Advance = Callable[[float], None]


@contextmanager
def collect_progress(num_episodes: int, start: int, *, enabled: bool = True) -> Iterator[Advance]:
    """Show a bar on a terminal, else a line at every tenth.

    Args:
        num_episodes: Of the whole collection.
        start: Those that are recorded already.
        enabled: False shows nothing.

    Yields:
        What to call with each episode's return.
    """
    console = Console(file=sys.stderr)
    live = enabled and sys.stderr.isatty() and not console.is_dumb_terminal
    columns = (
        TextColumn("recording"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("return {task.fields[last_return]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not live) as progress:
        task = progress.add_task("", total=num_episodes, completed=start, last_return="-")
        done = start

        def advance(episode_return: float) -> None:
            nonlocal done
            done += 1
            progress.update(task, advance=1, last_return=f"{episode_return:.4g}")
            is_tenth = 10 * done // num_episodes > 10 * (done - 1) // num_episodes
            if enabled and not live and is_tenth:
                line = f"recorded {done}/{num_episodes} episodes, return {episode_return:.4g}"
                print(line, file=sys.stderr, flush=True)

        yield advance
