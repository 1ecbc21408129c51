"""What a model predicts along one test window: a fan of particles, kept as its quantiles."""

import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.data import Transitions
from mbrl_bilevel.data.datasets import Windows
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.evaluation import StepFn, particle_interval
from mbrl_bilevel.evaluation.files import replacing

FANS_FILE = "fans.npz"
MAX_DIMS = 4


@dataclass(frozen=True)
class Fan:
    """A recorded window and the particles' quantiles, in the environment's units.

    Attributes:
        dims: `[D]`, which dimensions of the observation.
        recorded: `[K+1, D]`, from the observation that prediction starts at.
        median: `[K+1, D]`, of the particles; at the start all are the recorded observation.
        low_50, high_50: `[K+1, D]`, ends of the central interval of half of the particles.
        low_90, high_90: `[K+1, D]`, of nine in ten.
    """

    dims: NDArray[np.int64]
    recorded: NDArray[np.float32]
    median: NDArray[np.float32]
    low_50: NDArray[np.float32]
    high_50: NDArray[np.float32]
    low_90: NDArray[np.float32]
    high_90: NDArray[np.float32]


class FanRecorder:
    """Keeps the particles of the first window while a model is judged along all of them.

    Args:
        windows: What it is judged along; the first is kept up to its episode's end.
        dims: Which dimensions of the observation.
    """

    def __init__(self, windows: Windows, dims: NDArray[np.int64]) -> None:
        self._dims = dims
        self._num_steps = int(windows.num_steps[0])
        future_obs = windows.future_obs[0, : self._num_steps]
        self._recorded = np.concatenate([windows.obs[:1], future_obs])[:, dims]
        self._particles: list[Tensor] = []

    def watch(self, step_fn: StepFn) -> StepFn:
        """Return a function that does the same, and is watched."""

        def step(obs: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
            next_obs = step_fn(obs, action, generator)
            self._particles.append(next_obs[:, 0].cpu())
            return next_obs

        return step

    def fan(self) -> Fan:
        """Return the quantiles at every step that was watched."""
        particles = torch.stack(self._particles[: self._num_steps], dim=1)[..., self._dims]
        num_steps, num_dims = particles.shape[1:]
        flat = particles.flatten(start_dim=1)

        def with_start(values: Tensor) -> NDArray[np.float32]:
            values_by_step = values.reshape(num_steps, num_dims).numpy()
            return np.concatenate([self._recorded[:1], values_by_step]).astype(np.float32)

        (low_50, high_50), (low_90, high_90) = (particle_interval(flat, p) for p in (0.5, 0.9))
        return Fan(
            dims=self._dims,
            recorded=self._recorded[: num_steps + 1].astype(np.float32),
            median=with_start(flat.quantile(0.5, dim=0)),
            low_50=with_start(low_50),
            high_50=with_start(high_50),
            low_90=with_start(low_90),
            high_90=with_start(high_90),
        )


def liveliest_dims(test: Transitions) -> NDArray[np.int64]:
    """Return the dimensions whose changes have the largest variance, ascending; four at most."""
    variances = np.var(np.asarray(test.next_obs) - np.asarray(test.obs), axis=0, dtype=np.float64)
    return np.sort(np.argsort(-variances, kind="stable")[:MAX_DIMS]).astype(np.int64)


def save_fan(fan: Fan, folder: Path) -> None:
    """Write `fans.npz`, an array for each attribute, all of it or nothing."""
    with replacing(folder / FANS_FILE) as temporary:
        np.savez_compressed(temporary, **asdict(fan))


def load_fan(folder: Path) -> Fan | None:
    """Return what `save_fan` wrote; None where it wrote nothing.

    Raises:
        MBRLError: The file is damaged.
    """
    path = folder / FANS_FILE
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Fan)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MBRLError(f"{path} is damaged ({error}); delete it to do without") from error
    return Fan(**found)
