"""A training run on disk: its folder, checkpoints, metrics, progress, seeds and device."""

from mbrl_bilevel.runs.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    step_folder,
)
from mbrl_bilevel.runs.device import DeviceName, resolve_device
from mbrl_bilevel.runs.files import write_json_atomic, write_text_atomic
from mbrl_bilevel.runs.metrics import MetricsLogger, read_metrics
from mbrl_bilevel.runs.progress import TrainingProgress, count_progress
from mbrl_bilevel.runs.run_dir import RunDir, default_run_path, latest_run, versions
from mbrl_bilevel.runs.seeding import (
    capture_rng_state,
    derive_seed,
    generator_state,
    restore_rng_state,
    seed_everything,
    set_generator_state,
)
from mbrl_bilevel.runs.state_io import pack, unpack

__all__ = [
    "DeviceName",
    "MetricsLogger",
    "RunDir",
    "TrainingProgress",
    "capture_rng_state",
    "count_progress",
    "default_run_path",
    "derive_seed",
    "generator_state",
    "latest_checkpoint",
    "latest_run",
    "load_checkpoint",
    "pack",
    "prune_checkpoints",
    "read_metrics",
    "resolve_device",
    "restore_rng_state",
    "save_checkpoint",
    "seed_everything",
    "set_generator_state",
    "step_folder",
    "unpack",
    "versions",
    "write_json_atomic",
    "write_text_atomic",
]
