import io
import sys

import pytest

from mbrl_bilevel.runs.progress import TrainingProgress


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("mbrl_bilevel.runs.progress.monotonic", clock)
    return clock


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    assert "\r" not in captured.err
    return captured.err.splitlines()


def test_a_line_at_every_tenth(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(1000) as progress:
        for step in range(1, 1001):
            clock.now += 0.001
            progress.update(step)
    lines = lines_of(capsys)
    assert [line.split()[1] for line in lines] == [f"{100 * n}/1000" for n in range(1, 11)]


def test_a_line_after_ten_seconds(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(10_000) as progress:
        for step in range(1, 36):
            clock.now += 1
            progress.update(step)
    assert [line.split()[1] for line in lines_of(capsys)] == [
        f"{step}/10000" for step in (10, 20, 30, 35)
    ]


def test_what_a_line_says(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(20_000, start_step=1000) as progress:
        progress.update(1000, ep_return=-1208.31)
        progress.update(1500, model_error=0.0123)
        clock.now = 50.0
        progress.update(2000)
    assert lines_of(capsys) == [
        "step 2000/20000 (10%)  return -1208  rmse 0.0123  20 steps/s  elapsed 0:00:50  "
        "left 0:15:00"
    ]


def test_no_line_without_an_update_and_the_last_state_on_failure(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainingProgress(10):
        pass
    assert lines_of(capsys) == []
    clock.now = 1.0

    def fail() -> None:
        with TrainingProgress(100) as progress:
            progress.update(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [line.split("  ")[0] for line in lines_of(capsys)] == ["step 5/100 (5%)"]


@pytest.mark.usefixtures("clock")
def test_forced_colours_do_not_make_a_log_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TrainingProgress(10) as progress:
        progress.update(10)
    assert lines_of(capsys) == [
        "step 10/10 (100%)  return -  rmse -  - steps/s  elapsed 0:00:00  left -"
    ]


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_switched_off(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    with TrainingProgress(10, enabled=False) as progress:
        progress.update(10, ep_return=1.0)
    assert stderr.getvalue() == ""


def use_terminal(monkeypatch: pytest.MonkeyPatch, term: str) -> _Terminal:
    # Not a fixture: pytest puts its own stderr back between setting up and running a test.
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "80")
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_live_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = use_terminal(monkeypatch, "xterm-256color")
    with TrainingProgress(300_000, start_step=100_000) as progress:
        progress.update(100_500, ep_return=-1208.31, model_error=0.0123)
        print("a result for stdout")
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert "100500/300000" in shown
    assert "return -1208" in shown
    assert "rmse 0.0123" in shown
    assert "steps/s" in shown
    assert capsys.readouterr().out == "a result for stdout\n"


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch, "dumb")
    with TrainingProgress(10) as progress:
        progress.update(10)
    assert terminal.getvalue().startswith("step 10/10 (100%)")
    assert "\x1b" not in terminal.getvalue()
