"""TensorBoard shows a run under the tags that others rely on."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.cli.small import TAGS

PATIENCE_S = 120.0


@pytest.fixture
def address(finished_run: Path, tmp_path: Path) -> Iterator[str]:
    """Of a TensorBoard that watches the run."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(finished_run)]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", "0", "--load_fast", "false"], stdout=file, stderr=file
        )
    try:
        deadline = monotonic() + PATIENCE_S
        while not (match := re.search(r"at (http://\S+:\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert monotonic() < deadline, log.read_text()
            sleep(0.1)
        yield match[1]
    finally:
        process.kill()
        process.wait()


def ask(url: str) -> Any:
    """Return the JSON at a local address, whatever proxies are set; None if nothing answers."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            return json.load(answer)
    except URLError:
        return None


def test_tensorboard_shows_the_agreed_tags(address: str) -> None:
    deadline = monotonic() + PATIENCE_S
    tags: set[str] = set()
    while not tags >= TAGS and monotonic() < deadline:  # it reads the run in the background
        runs = ask(f"{address}/data/plugin/scalars/tags") or {}
        tags = {tag for run in runs.values() for tag in run}
        sleep(0.1)
    assert tags >= TAGS
    query = "run=.&tag=model%2Fval_nll"
    scalars = ask(f"{address}/data/plugin/scalars/scalars?{query}")
    assert [step for _, step, _ in scalars] == [20, 40, 60]
