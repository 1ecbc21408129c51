"""Cells run by Ray, on this machine or a cluster."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mbrl_bilevel.errors import ConfigError, MBRLError
from mbrl_bilevel.experiments.compare.cell_run import PATIENCE_S, Outcome
from mbrl_bilevel.experiments.compare.cells import Cell
from mbrl_bilevel.experiments.compare.progress import CompareProgress

WAIT_S = 0.5
STOPPED = "stopped"
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # By default its workers give way to everything else on the machine.
    "RAY_worker_niceness": "0",
}


def run_with_ray(
    cells: Sequence[Cell],
    num_workers: int,
    retries: int,
    address: str | None,
    progress: CompareProgress,
) -> Iterator[tuple[Cell, Outcome]]:
    """Run cells as tasks of Ray, one core each; as `run_local` does.

    Outcomes come back as values: the cells' folders need not be on a file system that is shared. A
    cell that is tried again goes on from its checkpoint where it finds one.

    Args:
        cells: What to run.
        num_workers: At a time on this machine; 0: one a core. A cluster has its own number.
        retries: Of a cell whose worker is lost.
        address: Of a cluster; None: Ray is started here, and ended in the end.
        progress: Gets told which run.

    Raises:
        ConfigError: Ray is not installed.
        MBRLError: There is no cluster at the address.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "engine=ray needs the package ray: pip install 'mbrl-bilevel[ray]', or engine=local"
        ) from error
    _connect(ray, address, num_workers)
    # A process for each cell, as elsewhere: what one leaves in it no other one sees.
    remote = ray.remote(num_cpus=1, max_calls=1, max_retries=retries)(_remote_cell)
    pending: dict[Any, Cell] = {}
    try:
        for cell in cells:
            reference = remote.remote(cell.text, str(cell.folder.absolute()), str(Path.cwd()))
            pending[reference] = cell
            progress.start(cell)
        while pending:
            ready, _ = ray.wait(list(pending), timeout=WAIT_S)
            progress.refresh()
            for reference in ready:
                yield pending.pop(reference), _outcome(ray, reference)
    finally:
        for reference in pending:
            ray.cancel(reference)
        if pending:
            ray.wait(list(pending), num_returns=len(pending), timeout=PATIENCE_S)
        ray.shutdown()


def _connect(ray: Any, address: str | None, num_workers: int) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        settings |= {"num_cpus": num_workers or None, "include_dashboard": False}
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise MBRLError(f"ray.address={address!r}: {error}") from error


def _remote_cell(text: str, folder: str, working_folder: str) -> Outcome:
    """Run a cell in a worker of Ray; failures are values, so that only lost workers are retried."""
    # Environments of one's own are modules in the folder that the command was started in.
    sys.path.insert(0, working_folder)
    from omegaconf import OmegaConf

    from mbrl_bilevel import build
    from mbrl_bilevel.experiments.compare.cell_run import run_cell

    data: Any = OmegaConf.to_container(OmegaConf.create(text))
    try:
        return run_cell(build.train_config(data), Path(folder))
    except KeyboardInterrupt:
        return {"status": STOPPED}
    except Exception as error:  # whatever it is, the other cells go on
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"}


def _outcome(ray: Any, reference: Any) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return {"status": "failed", "error": str(error).strip().splitlines()[0]}
    return outcome
