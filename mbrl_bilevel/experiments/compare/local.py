"""Cells in processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mbrl_bilevel.experiments.compare.cell_run import PATIENCE_S, Outcome, read_outcome
from mbrl_bilevel.experiments.compare.cells import Cell
from mbrl_bilevel.experiments.compare.progress import CompareProgress
from mbrl_bilevel.runs import write_text_atomic

WORKER = "mbrl_bilevel.experiments.compare.worker"
POLL_S = 0.1
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    tries_left: int

    def close(self) -> None:
        self.log.close()
        assert self.process.stdin is not None
        self.process.stdin.close()


def run_local(
    cells: Sequence[Cell], num_workers: int, retries: int, progress: CompareProgress
) -> Iterator[tuple[Cell, Outcome]]:
    """Run cells side by side; yield each with its outcome as it ends.

    A cell whose process was killed is tried again; one that fails is an outcome, too. When the
    caller stops, Ctrl-C included, those that are running write a checkpoint first.

    Args:
        cells: What to run.
        num_workers: At a time; 0: one a core.
        retries: Of a cell.
        progress: Gets told which run.
    """
    waiting = deque((cell, retries) for cell in cells)
    running: list[_Running] = []
    num_workers = num_workers or os.cpu_count() or 1
    try:
        while waiting or running:
            while waiting and len(running) < num_workers:
                running.append(_start(*waiting.popleft()))
                progress.start(running[-1].cell)
            time.sleep(POLL_S)
            progress.refresh()
            for one in [each for each in running if each.process.poll() is not None]:
                running.remove(one)
                one.close()
                if one.process.returncode < 0 and one.tries_left:
                    progress.restart(one.cell, f"killed by signal {-one.process.returncode}")
                    waiting.appendleft((one.cell, one.tries_left - 1))
                    continue
                yield one.cell, _outcome(one)
    finally:
        _stop(running)


def log_path(cell: Cell) -> Path:
    """Return where a cell's output goes."""
    return cell.folder.with_name(f"{cell.folder.name}.log")


def _start(cell: Cell, tries_left: int) -> _Running:
    config_path = cell.folder.with_name(f"{cell.folder.name}.yaml")
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(config_path, cell.text)
    log = log_path(cell).open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", WORKER, str(config_path), str(cell.folder)],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **ONE_THREAD},
        # Ctrl-C comes from here, so that every cell gets it once.
        start_new_session=True,
    )
    return _Running(cell, process, log, tries_left)


def _outcome(one: _Running) -> Outcome:
    code = one.process.returncode
    if code == 0:
        return read_outcome(one.cell.folder)
    path = log_path(one.cell)
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = f"killed by signal {-code}" if code < 0 else (lines[-1] if lines else f"exit {code}")
    return {"status": "failed", "error": reason, "log": str(path)}


def _stop(running: Sequence[_Running]) -> None:
    for one in running:
        one.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + PATIENCE_S
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        one.close()
