"""Checkpoints on disk: one folder each, complete or absent, and checked when loaded.

A folder holds `tensors.safetensors` and `state.json` (the rest of the state, the format version
and checksums of both). It is written beside its final place and renamed. To replace a folder,
the old one is first renamed to `.<name>.previous`; should the process die before the new one is
in place, the functions here go on reading the old one from there.
"""

import contextlib
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mbrl_bilevel.errors import CheckpointError, ConfigError
from mbrl_bilevel.runs import strict_json
from mbrl_bilevel.runs.files import os_reason, sync_file, sync_folder
from mbrl_bilevel.runs.state_io import pack, unpack

FORMAT_VERSION = 1
TENSORS_FILE = "tensors.safetensors"
STATE_FILE = "state.json"

_STEP_FOLDER = re.compile(r"(step_\d{8,})|\.(step_\d{8,})\.previous")
_LEFTOVER = re.compile(r"\.step_\d{8,}\.partial-[0-9a-f]{8}")


def save_checkpoint(folder: Path, state: Mapping[Any, Any]) -> None:
    """Write `state` as the checkpoint `folder`, replacing an earlier checkpoint of that name.

    Args:
        folder: where to; parent folders are made.
        state: anything that `state_io.pack` takes.

    Raises:
        CheckpointError: `folder` cannot be written, or holds other files. An earlier checkpoint
            there can still be loaded.
        TypeError: `state` holds something that cannot be stored; nothing is written.
    """
    folder = folder.resolve()
    tensors, skeleton = pack(dict(state))
    _refuse_other_content(folder)
    partial = _partial_name(folder)
    try:
        partial.mkdir(parents=True)
        save_file(tensors, partial / TENSORS_FILE)
        envelope = {
            "format_version": FORMAT_VERSION,
            "tensors_sha256": _file_sha256(partial / TENSORS_FILE),
            "state_sha256": _json_sha256(skeleton),
            "state": skeleton,
        }
        (partial / STATE_FILE).write_text(_compact_json(envelope), encoding="ascii")
        sync_file(partial / TENSORS_FILE)
        sync_file(partial / STATE_FILE)
        sync_folder(partial)
        _move_into_place(partial, folder)
    except (OSError, SafetensorError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise CheckpointError(f"cannot write checkpoint {folder}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict[Any, Any]:
    """Read what `save_checkpoint` wrote; runs no code from the files.

    Args:
        folder: the checkpoint.
        device: where the tensors go (NumPy arrays stay NumPy arrays).

    Raises:
        CheckpointError: a file is missing, truncated, corrupt or of another format version; the
            message names it.
    """
    source = folder if folder.exists() else _previous_name(folder)
    if not source.exists():
        raise CheckpointError(f"no checkpoint {folder}: there is no such folder")
    envelope = _read_envelope(source / STATE_FILE)
    tensors_path = source / TENSORS_FILE
    try:
        checksum = _file_sha256(tensors_path)
        if checksum != envelope["tensors_sha256"]:
            raise CheckpointError(
                f"{tensors_path} is truncated or corrupt: its {tensors_path.stat().st_size} bytes "
                f"do not have the checksum in {STATE_FILE}"
            )
        state = unpack(load_file(tensors_path), envelope["state"], device)
    except OSError as error:
        raise CheckpointError(f"cannot read {tensors_path}: {os_reason(error)}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"cannot restore the state in {source}: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{source / STATE_FILE} holds a {type(state).__name__}, not a dict")
    return state


def step_folder(checkpoints_dir: Path, step: int) -> Path:
    """The folder of the checkpoint at a step: `step_00002000`."""
    return checkpoints_dir / f"step_{step:08d}"


def latest_checkpoint(checkpoints_dir: Path) -> Path | None:
    """The checkpoint with the highest step, for `load_checkpoint`; None if there is none."""
    checkpoints = _checkpoints(checkpoints_dir)
    return checkpoints[-1] if checkpoints else None


def prune_checkpoints(checkpoints_dir: Path, keep: int) -> None:
    """Delete all checkpoints but the `keep` latest, and what interrupted writes left behind.

    Raises:
        ConfigError: `keep` is less than 1.
        CheckpointError: a folder cannot be deleted.
    """
    if keep < 1:
        raise ConfigError(f"checkpoints to keep: {keep}; allowed: integers >= 1")
    try:
        checkpoints = _checkpoints(checkpoints_dir)
        for folder in checkpoints[:-keep]:
            for name in (folder, _previous_name(folder)):
                if name.exists():
                    # Renamed first: a deletion cut short must not look like a checkpoint.
                    name.rename(_partial_name(folder))
        for folder in checkpoints[-keep:]:
            if folder.exists() and _previous_name(folder).exists():
                shutil.rmtree(_previous_name(folder))
        if checkpoints_dir.is_dir():
            for entry in sorted(checkpoints_dir.iterdir()):
                if _LEFTOVER.fullmatch(entry.name):
                    shutil.rmtree(entry)
    except OSError as error:
        raise CheckpointError(
            f"cannot delete old checkpoints in {checkpoints_dir}: {os_reason(error)}"
        ) from error


def _checkpoints(checkpoints_dir: Path) -> list[Path]:
    """All checkpoints under their final names, earliest step first."""
    if not checkpoints_dir.is_dir():
        return []
    matches = (_STEP_FOLDER.fullmatch(entry.name) for entry in checkpoints_dir.iterdir())
    names = {match[1] or match[2] for match in matches if match}
    return [checkpoints_dir / name for name in sorted(names, key=lambda name: int(name[5:]))]


def _move_into_place(partial: Path, folder: Path) -> None:
    previous = _previous_name(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    try:
        partial.rename(folder)
    except BaseException:
        if previous.exists():
            with contextlib.suppress(OSError):  # it can be loaded from where it is, too
                previous.rename(folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _refuse_other_content(folder: Path) -> None:
    """Never delete what is not a checkpoint: `folder` may be anything a user typed."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"cannot write checkpoint {folder}: a file of that name exists")
    others = sorted({entry.name for entry in folder.iterdir()} - {TENSORS_FILE, STATE_FILE})
    if others:
        raise CheckpointError(
            f"cannot write checkpoint {folder}: the folder holds other files ({others[0]}); "
            "name a new folder or an earlier checkpoint"
        )


def _read_envelope(path: Path) -> dict[str, Any]:
    try:
        envelope = strict_json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {os_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    version = envelope.get("format_version") if isinstance(envelope, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version!r}; this program reads {FORMAT_VERSION}"
        )
    missing = {"tensors_sha256", "state_sha256", "state"} - envelope.keys()
    if missing or _json_sha256(envelope["state"]) != envelope["state_sha256"]:
        raise CheckpointError(f"{path} is corrupt: its content does not have its checksum")
    assert isinstance(envelope, dict)
    return envelope


def _compact_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _json_sha256(value: object) -> str:
    return hashlib.sha256(_compact_json(value).encode("ascii")).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _partial_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")


def _previous_name(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")
