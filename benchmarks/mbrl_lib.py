"""The PyPI package `mbrl`, which benchmarks measure this package beside, in an environment.

`mbrl_python(folder)` makes the environment if it is missing (a few megabytes, from the network; the
first time only) and returns its Python. There `mbrl` uses the very torch, numpy and gymnasium that
this package is measured with: only what it needs besides is installed, without what its examples
and notebooks want. The releases that it asks for (hydra-core 1.0.3) do not run on Python 3.11.

`MbrlWorker` runs a script in it that measures once for each line it is sent, so that this package
and `mbrl` can take turns.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Self

import torch
from environments import ONE_THREAD, cache_folder, make_environment

MBRL = "mbrl==0.2.0"
PACKAGES = (
    MBRL,
    "hydra-core==1.3.2",
    "omegaconf==2.3.0",
    "antlr4-python3-runtime==4.9.3",
    "pyyaml==6.0.3",
    "termcolor==3.1.0",
    "tqdm==4.67.1",
)


def default_mbrl_folder() -> Path:
    """Return the folder in the user's cache that the environment is kept in."""
    return cache_folder("mbrl")


def mbrl_python(folder: Path) -> Path:
    """Return a Python in which `import mbrl.models` works; see `make_environment`."""
    ours = sysconfig.get_path("purelib")

    def install(python: Path) -> None:
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES]
        subprocess.run(command, check=True, stdout=sys.stderr)
        # Behind its own packages, those of the Python that runs this.
        theirs = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.strip()
        (Path(theirs) / "measured_with.pth").write_text(f"{ours}\n", encoding="utf-8")
        subprocess.run([str(python), "-W", "ignore", "-c", "import mbrl.models"], check=True)

    wanted = "\n".join([sys.version, ours, torch.__version__, *PACKAGES]) + "\n"
    return make_environment(folder, wanted, MBRL, install)


class MbrlWorker:
    """A process that runs a script in `mbrl`'s environment and measures when it is told to.

    The script reads one JSON object a line and answers each with one on a line of its own, both
    on the standard streams. One thread. A context manager: the process ends with the block.

    Args:
        python: What `mbrl_python` returned.
        script: The script.
        arguments: Its arguments.
    """

    def __init__(self, python: Path, script: Path, arguments: tuple[str, ...] = ()) -> None:
        self._script = script
        # mbrl uses what newer versions of torch and gymnasium warn about.
        command = [str(python), "-W", "ignore", str(script), *arguments]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ONE_THREAD,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closes the streams, which ends the script's loop, and waits for it.
        self._process.__exit__(None, None, None)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            RuntimeError: The script has ended instead of answering.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"{self._script} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
