"""Every command and every Python example of the documentation, run as written."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

EXECUTED = {"mbrl-bilevel", "mkdir"}
NOT_EXECUTED = {"docker", "git", "make", "tensorboard"}
"""What needs the network, a daemon or a checkout, or serves until it is stopped."""

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# (\w+\.py)\n")
"""First line of a Python block that is to be saved under a name: commands and others use it."""
TIMEOUT_S = 900


def blocks(document: Path, language: str) -> list[str]:
    """The contents of a document's fenced blocks of one language."""
    return [text for found, text in BLOCK.findall(document.read_text()) if found == language]


def commands(document: Path) -> list[list[str]]:
    """The words of every command in a document's bash blocks, comments left out."""
    lines = [
        line
        for block in blocks(document, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def save_scripts(document: Path, folder: Path) -> list[Path]:
    """Write a document's Python blocks into a folder, under the names they ask for."""
    scripts = []
    for number, source in enumerate(blocks(document, "python")):
        name = NAME.match(source)
        scripts.append(folder / (name[1] if name else f"example_{number}.py"))
        scripts[-1].write_text(source)
    return scripts


def run(command: list[str], cwd: Path) -> None:
    """Run a command, with the installed programs of this Python first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which(command[0], path=path)
    assert program is not None, f"{command[0]} is not installed"
    result = subprocess.run(
        [program, *command[1:]],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_of_a_known_kind(document: Path) -> None:
    found = {words[0] for words in commands(document)}
    assert found - EXECUTED - NOT_EXECUTED == set()


def test_the_readme_has_commands_and_an_example() -> None:
    assert commands(DOCUMENTS[0])[2][:3] == ["mbrl-bilevel", "train", "pets_pendulum"]
    assert "agent.learn(" in blocks(DOCUMENTS[0], "python")[0]


@pytest.mark.learning
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_run_one_after_the_other(document: Path, tmp_path: Path) -> None:
    summary = tmp_path / "runs" / "first" / "summary.json"
    first_return = None
    save_scripts(document, tmp_path)
    for command in commands(document):
        if command[0] in EXECUTED:
            run(command, tmp_path)
        if first_return is None and summary.exists():  # a later command trains it further
            first_return = json.loads(summary.read_text())["eval_return_mean"]
    if document.name == "README.md":
        assert first_return is not None
        assert first_return >= -300
        assert json.loads((tmp_path / "result.json").read_text())["eval_return_mean"] >= -300
        assert json.loads(summary.read_text())["env_steps"] == 900


@pytest.mark.learning
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_examples_run_one_after_the_other(document: Path, tmp_path: Path) -> None:
    for script in save_scripts(document, tmp_path):
        run([sys.executable, script.name], tmp_path)
