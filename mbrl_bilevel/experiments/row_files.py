"""Files of rows of results, `{"results": [row, ...]}`, as interrupted work leaves them."""

from pathlib import Path
from typing import Any

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs.files import os_reason
from mbrl_bilevel.runs.strict_json import loads


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; none if there is no file.

    Raises:
        MBRLError: It cannot be read, or is damaged.
    """
    if not path.exists():
        return []
    try:
        rows = loads(path.read_bytes())["results"]
    except OSError as error:
        raise MBRLError(f"cannot read {path}: {os_reason(error)}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise MBRLError(f"{path} is not what a fit writes: {error!r}") from error
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise MBRLError(f"{path} does not hold a list of results")
    return rows
