"""The file of a comparison's rows: results.jsonl, a JSON value a line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs import strict_json, write_text_atomic
from mbrl_bilevel.runs.files import os_reason


def read_rows(path: Path) -> list[Any]:
    """Return the values of a file, one a line; whether they are rows is the caller's to check.

    Raises:
        MBRLError: The file cannot be read, or a line is not strict JSON; the message names it.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise MBRLError(f"cannot read {path}: {os_reason(error)}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(strict_json.loads(line))
        except ValueError as error:
            raise MBRLError(f"{path}, line {number}: not a row of results ({error!r})") from error
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of rows in one step."""
    write_text_atomic(path, "".join(strict_json.dumps(row) + "\n" for row in rows))
