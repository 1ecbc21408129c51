from pathlib import Path

import pytest

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs.files import write_text_atomic


def test_text_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")
    write_text_atomic(path, "höhe\n")
    assert path.read_bytes() == "höhe\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_the_reason_is_named(tmp_path: Path) -> None:
    with pytest.raises(MBRLError, match=r"cannot write .*a.txt: No such file or directory"):
        write_text_atomic(tmp_path / "nowhere" / "a.txt", "x")
