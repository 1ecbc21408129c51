"""Writing files so that a crash leaves either the old content or the new, never a mixture."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs import strict_json


def write_text_atomic(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8) in one step.

    Raises:
        MBRLError: the file cannot be written; whatever was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise MBRLError(f"cannot write {path}: {os_reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Replace the content of `path` by strict JSON (NaN and infinities as null) in one step.

    Raises:
        MBRLError: the file cannot be written; whatever was there before is untouched.
        TypeError: `value` holds something without a JSON form.
    """
    write_text_atomic(path, strict_json.dumps(value, indent=2) + "\n")


def sync_file(path: Path) -> None:
    """Force the content of a file onto the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Force the names in a folder (creations, renames) onto the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def os_reason(error: OSError) -> str:
    """What the operating system says went wrong, e.g. `No space left on device`."""
    return error.strerror or str(error)
