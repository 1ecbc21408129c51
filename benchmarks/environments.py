"""Virtual environments for what benchmarks measure this package beside."""

import os
import shutil
import sys
import venv
from collections.abc import Callable
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def cache_folder(name: str) -> Path:
    """Return the folder in the user's cache that an environment is kept in."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mbrl-bilevel" / name


def make_environment(folder: Path, wanted: str, what: str, install: Callable[[Path], None]) -> Path:
    """Return the Python of the environment in `folder`; make it if it is missing or outdated.

    Args:
        folder: Of the environment; made if it does not exist.
        wanted: What is installed, in words; another text makes the environment anew.
        what: To be told that it is installed.
        install: Puts the packages into the environment, given its Python.

    Raises:
        subprocess.CalledProcessError: The packages cannot be installed.
        SystemExit: The folder holds something else.
    """
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = folder / "installed.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    if folder.exists():
        if not (folder / "pyvenv.cfg").is_file():
            sys.exit(f"{folder} exists and is no virtual environment; choose another folder")
        shutil.rmtree(folder)
    print(f"Installing {what} in {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    install(python)
    stamp.write_text(wanted, encoding="utf-8")
    return python
