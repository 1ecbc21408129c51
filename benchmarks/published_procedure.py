"""The published procedure for the synthetic problem of the paper's section 5.2, timed.

    python benchmarks/published_procedure.py [--seed S] [--objective analytic] [--cg-steps 20] ...

makes an environment for TorchOpt, which the project itself does not need, in the user's cache
(about 1 GB; the first time only, from the network) and runs `published_procedure_torchopt.py` in
it. The result is printed as one JSON object: `u_hat` after the last outer step, `u_star_residual`
(the best u for the residuals of the last network on its outer data), `u_true`, `u_history`,
`wall_time_s` and `cpu_time_s`, both without imports. `--help-procedure` lists the procedure's own
options.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import ONE_THREAD, cache_folder, make_environment

TORCHOPT = "torchopt==0.7.3"
ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PROCEDURE = Path(__file__).resolve().with_name("published_procedure_torchopt.py")


def default_environment() -> Path:
    """Return the folder in the user's cache that the environment is kept in."""
    return cache_folder("torchopt")


def environment_python(folder: Path) -> Path:
    """Return the Python of the environment in `folder`; see `make_environment`."""
    constraints = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    torch = next(line for line in constraints if line.startswith("torch=="))

    def install(python: Path) -> None:
        command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS)]
        subprocess.run([*command, torch, TORCHOPT], check=True, stdout=sys.stderr)

    wanted = f"{sys.version}\n{torch}\n{TORCHOPT}\n"
    return make_environment(folder, wanted, f"torch and {TORCHOPT}", install)


def run_procedure(python: Path, arguments: list[str]) -> dict[str, Any]:
    """Return the result of one run on one thread."""
    # TorchOpt calls functions that newer versions of torch warn about.
    command = [str(python), "-W", "ignore", str(PROCEDURE), *arguments]
    environment = os.environ | ONE_THREAD
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def main() -> None:
    """Print the result of one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environment", type=Path, default=default_environment(), metavar="DIR")
    parser.add_argument("--help-procedure", action="store_true")
    args, procedure_arguments = parser.parse_known_args()
    python = environment_python(args.environment)
    if args.help_procedure:
        subprocess.run([python, PROCEDURE, "--help"], check=True)
        return
    print(json.dumps(run_procedure(python, procedure_arguments)))


if __name__ == "__main__":
    main()
