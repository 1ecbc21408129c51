import importlib.metadata
import json
import math
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.runs.run_dir import RunDir, default_run_path, latest_run, versions

NOW = datetime(2025, 3, 4, 5, 6, 7)


def test_layout(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "a" / "b")
    assert run.path == tmp_path / "a" / "b"
    relative = {
        "config_path": "config.yaml",
        "metrics_path": "metrics.jsonl",
        "summary_path": "summary.json",
        "checkpoints": "checkpoints",
        "videos": "videos",
        "plots": "plots",
    }
    for name, expected in relative.items():
        assert getattr(run, name) == run.path / expected
    assert sorted(entry.name for entry in run.path.iterdir()) == ["checkpoints", "plots", "videos"]


@pytest.mark.parametrize("held", ["config.yaml", "metrics.jsonl", "checkpoints/step_00000001"])
def test_create_refuses_a_folder_with_a_run(tmp_path: Path, held: str) -> None:
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MBRLError, match=r"already holds a run.*--resume.*--run-dir"):
        RunDir.create(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_create_takes_a_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunDir.create(tmp_path)
    RunDir.create(tmp_path)  # a run that died before it wrote anything
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_create_names_the_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MBRLError, match=r"cannot make the run folder .*file/run: Not a directory"):
        RunDir.create(tmp_path / "file" / "run")
    with pytest.raises(MBRLError, match=r"cannot make the run folder .*file: Not a directory"):
        RunDir.create(tmp_path / "file")

    mkdir = Path.mkdir

    def deny_videos(self: Path) -> None:
        if self.name == "videos":
            raise PermissionError(13, "Permission denied")
        mkdir(self)

    monkeypatch.setattr(Path, "mkdir", deny_videos)
    with pytest.raises(MBRLError, match=r"cannot make the run folder .*: Permission denied"):
        RunDir.create(tmp_path / "a" / "b")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_open_needs_a_config(tmp_path: Path) -> None:
    with pytest.raises(MBRLError, match=r"is not a run folder: it has no config.yaml"):
        RunDir.open(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert RunDir.open(tmp_path) == RunDir(tmp_path)


def test_default_path_is_free(tmp_path: Path) -> None:
    base = tmp_path / "pets_pendulum"
    for name in ("20250304-050607-s3", "20250304-050607-s3-2", "20250304-050607-s3-3"):
        path = default_run_path(tmp_path, "pets_pendulum", 3, NOW)
        assert path == base / name
        path.mkdir(parents=True)


def test_latest_run(tmp_path: Path) -> None:
    assert latest_run(tmp_path, "x") is None
    (tmp_path / "x").mkdir()
    assert latest_run(tmp_path, "x") is None
    for name in ("20250101-000000-s9", "20250102-000000-s1", "20250102-000000-s1-2"):
        (tmp_path / "x" / name).mkdir()
        (tmp_path / "x" / name / "config.yaml").write_text("")
    (tmp_path / "x" / "20250103-000000-s1").mkdir()  # no config: not a run
    (tmp_path / "x" / "zz").mkdir()
    (tmp_path / "x" / "zz" / "config.yaml").write_text("")
    assert latest_run(tmp_path, "x") == tmp_path / "x" / "20250102-000000-s1-2"
    (tmp_path / "x" / "20250102-000000-s1-10").mkdir()
    (tmp_path / "x" / "20250102-000000-s1-10" / "config.yaml").write_text("")
    assert latest_run(tmp_path, "x") == tmp_path / "x" / "20250102-000000-s1-10"


def test_summary_is_strict_json(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path)
    run.write_summary(
        {
            "eval_return_mean": np.float32(-1.5),
            "eval_return_std": math.nan,
            "env_steps": np.int64(3),
            "eval_returns": [1.0, math.inf],
            "versions": {"python": "3"},
        }
    )
    expected = {
        "eval_return_mean": -1.5,
        "eval_return_std": None,
        "env_steps": 3,
        "eval_returns": [1.0, None],
        "versions": {"python": "3"},
    }
    assert json.loads(run.summary_path.read_text()) == expected
    assert run.read_summary() == expected


def test_a_failed_summary_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir.create(tmp_path)
    run.write_summary({"status": "running"})
    with pytest.raises(TypeError, match="not JSON serializable"):
        run.write_summary({"status": object()})

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(MBRLError, match=r"cannot write .*summary.json: No space left"):
        run.write_summary({"status": "done"})
    assert run.read_summary() == {"status": "running"}
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read .*summary.json: No such file"),
        ("{", "summary.json is not valid JSON"),
        ("[]", "summary.json does not hold a JSON object"),
    ],
)
def test_a_bad_summary_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    with pytest.raises(MBRLError, match=message):
        RunDir(tmp_path).read_summary()


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions()
    assert list(found) == ["python", "mbrl-bilevel", "torch", "numpy", "gymnasium", "mujoco"]
    assert found["numpy"] == np.__version__

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert versions()["mujoco"] == "not installed"


def test_neither_mujoco_nor_matplotlib_is_imported() -> None:
    code = (
        "import sys, mbrl_bilevel.runs as runs; runs.versions();"
        "print([name for name in ('mujoco', 'matplotlib', 'gymnasium') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert result.stdout.strip() == "[]"
