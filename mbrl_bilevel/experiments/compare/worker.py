"""A cell in a process of its own: `python -m mbrl_bilevel.experiments.compare.worker`.

The arguments are the cell's configuration (a file) and its folder. Standard input is a pipe from
the process that started this one: when it closes, that process is gone, and so is the cell, with a
checkpoint. Exit status: 0 finished, 1 failed (the last line of the output says why), 130 stopped.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from mbrl_bilevel import build
from mbrl_bilevel.config import load_data
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.experiments.compare.cell_run import run_cell


def main(config_path: Path, folder: Path) -> int:
    """Run the cell; return the exit status."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        run_cell(build.train_config(load_data(config_path)), folder)
    except KeyboardInterrupt:
        return 130
    except MBRLError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _stop_with_parent() -> None:
    # Not by sys.stdin, whose lock a process that ends would wait for.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
