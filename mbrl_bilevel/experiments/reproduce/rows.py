"""The rows of a table: each kept in a file as soon as it is there."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.experiments.reproduce.outcome import Advance
from mbrl_bilevel.runs import write_json_atomic

Row = Mapping[str, Any]


class Rows:
    """Computes the rows of a table, one fit each, or finds them finished.

    Args:
        path: A JSON file `{"results": [row, ...]}`, written anew after each row.
        advance: Called after each row, to show progress.
        finished: The first rows, of a run that was interrupted.
    """

    def __init__(self, path: Path, advance: Advance, finished: Sequence[Row] = ()) -> None:
        self.advance = advance
        self._path = path
        self._finished = list(finished)
        self._rows: list[Row] = []

    def add(self, key: Row, compute: Callable[[], Row]) -> None:
        """Add the row that begins with `key`, which says what was fitted to what.

        Args:
            key: Tells the row from all others.
            compute: Returns the rest of the row; not called if the row is finished already.

        Raises:
            MBRLError: A finished row is of something else; the file cannot be written.
        """
        place = len(self._rows)
        if place < len(self._finished):
            row = self._finished[place]
            if any(row.get(name) != value for name, value in key.items()):
                raise MBRLError(f"{self._path}: row {place + 1} is {dict(row)}, not of {dict(key)}")
        else:
            row = {**key, **compute()}
        self._rows.append(row)
        if len(self._rows) > len(self._finished):
            write_json_atomic(self._path, {"results": self._rows})
        self.advance()

    def to_list(self) -> list[Row]:
        """Return all rows so far."""
        return list(self._rows)
