"""How far a training run has come, on stderr: a live bar, or plain lines for a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress:
    """Shows the progress of a training run; a context manager.

    On a terminal that is one live bar, otherwise a line at every tenth of the run and after at
    least 10 s. Both go to stderr: stdout stays free for results.

    Args:
        total_steps: environment steps of the whole run.
        start_step: those already done when a resumed run starts.
        enabled: False shows nothing.
    """

    def __init__(self, total_steps: int, *, start_step: int = 0, enabled: bool = True) -> None:
        self._total_steps = total_steps
        self._start_step = start_step
        self._enabled = enabled
        self._ep_return: float | None = None
        self._model_error: float | None = None
        self._display: _Display | None = None

    def update(
        self, step: int, ep_return: float | None = None, model_error: float | None = None
    ) -> None:
        """Show that `step` of the total steps are done.

        Args:
            step: environment steps so far, those before a resume included.
            ep_return: return of the last episode; None leaves the last one standing.
            model_error: validation RMSE of the model; None likewise.
        """
        if ep_return is not None:
            self._ep_return = ep_return
        if model_error is not None:
            self._model_error = model_error
        if self._display is not None:
            self._display.show(step, _short(self._ep_return), _short(self._model_error))

    def __enter__(self) -> Self:
        if self._enabled:
            console = Console(file=sys.stderr)
            # Asked of the stream: rich also takes FORCE_COLOR, which CI systems set, for a yes.
            live = sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
            if live:
                self._display = _LiveBar(console, self._total_steps, self._start_step)
            else:
                self._display = _PlainLines(sys.stderr, self._total_steps, self._start_step)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands; what is printed from now on comes below it."""
        if self._display is not None:
            self._display.close()
            self._display = None


@contextmanager
def count_progress(
    num: int, doing: str, what: str, *, enabled: bool = True
) -> Iterator[Callable[[], None]]:
    """Show on stderr how many of `num` things are done: a bar, or a line at the start.

    Args:
        num: How many there are.
        doing: `"evaluating"`, say.
        what: `"over 5 episodes"`, say: the rest of the line.
        enabled: False shows nothing.

    Yields:
        What to call after each.
    """
    console = Console(file=sys.stderr)
    if enabled and not sys.stderr.isatty():
        print(f"{doing} {what}", file=sys.stderr, flush=True)
    columns = (
        TextColumn(doing),
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    live = enabled and sys.stderr.isatty() and not console.is_dumb_terminal
    with Progress(*columns, console=console, disable=not live) as progress:
        task = progress.add_task("", total=num)
        yield lambda: progress.advance(task)


class _Display(Protocol):
    def show(self, step: int, ep_return: str, model_error: str) -> None: ...

    def close(self) -> None: ...


class _LiveBar:
    """One bar, redrawn in place."""

    def __init__(self, console: Console, total_steps: int, start_step: int) -> None:
        self._progress = Progress(
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("return {task.fields[ep_return]}", table_column=Column(no_wrap=True)),
            TextColumn("rmse {task.fields[model_error]}", table_column=Column(no_wrap=True)),
            _SpeedColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            refresh_per_second=4,
            # Results printed to a file must not be caught and sent to the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task(
            "", total=total_steps, completed=start_step, ep_return="-", model_error="-"
        )
        self._progress.start()

    def show(self, step: int, ep_return: str, model_error: str) -> None:
        self._progress.update(
            self._task, completed=step, ep_return=ep_return, model_error=model_error
        )

    def close(self) -> None:
        self._progress.stop()


class _SpeedColumn(ProgressColumn):
    """Environment steps per second, over the last seconds."""

    def render(self, task: Task) -> Text:
        return Text(f"{_short(task.finished_speed or task.speed)} steps/s")


class _PlainLines:
    """One line at every tenth of the run, and whenever the last is long ago."""

    def __init__(self, stream: TextIO, total_steps: int, start_step: int) -> None:
        self._stream = stream
        self._total_steps = max(total_steps, 1)
        self._start_step = start_step
        self._start_time = self._line_time = monotonic()
        self._line_step = start_step
        self._line: str | None = None

    def show(self, step: int, ep_return: str, model_error: str) -> None:
        now = monotonic()
        elapsed_s = now - self._start_time
        speed = (step - self._start_step) / elapsed_s if elapsed_s > 0 else None
        left_s = (self._total_steps - step) / speed if speed else None
        self._line = (
            f"step {step}/{self._total_steps} ({100 * step // self._total_steps}%)  "
            f"return {ep_return}  rmse {model_error}  {_short(speed)} steps/s  "
            f"elapsed {_clock(elapsed_s)}  left {_clock(left_s)}"
        )
        new_tenth = 10 * step // self._total_steps > 10 * self._line_step // self._total_steps
        if new_tenth or now - self._line_time >= _SECONDS_BETWEEN_LINES:
            self._print_line()
            self._line_time, self._line_step = now, step

    def close(self) -> None:
        if self._line is not None:
            self._print_line()

    def _print_line(self) -> None:
        print(self._line, file=self._stream, flush=True)
        self._line = None


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _clock(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=int(seconds)))
