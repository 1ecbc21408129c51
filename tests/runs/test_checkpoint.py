import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mbrl_bilevel.errors import CheckpointError, ConfigError
from mbrl_bilevel.runs.checkpoint import (
    STATE_FILE,
    TENSORS_FILE,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    step_folder,
)

STATE: dict[str, Any] = {
    "step": 7,
    "weights": torch.arange(6.0),
    "obs": np.ones((2, 3), np.float32),
    "nan": float("inf"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints" / "step_00000007"
    save_checkpoint(folder, STATE)
    return folder


def assert_is_state(state: dict[Any, Any]) -> None:
    assert list(state) == list(STATE)
    assert state["step"] == 7
    assert torch.equal(state["weights"], STATE["weights"])
    np.testing.assert_array_equal(state["obs"], STATE["obs"])


def test_a_checkpoint_is_two_files_and_comes_back(folder: Path) -> None:
    assert sorted(entry.name for entry in folder.iterdir()) == [STATE_FILE, TENSORS_FILE]
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
    assert_is_state(load_checkpoint(folder))
    envelope = json.loads((folder / STATE_FILE).read_text())
    digest = hashlib.sha256((folder / TENSORS_FILE).read_bytes()).hexdigest()
    assert envelope["tensors_sha256"] == digest


def test_state_without_tensors(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {"step": 1})
    assert load_checkpoint(tmp_path / "c") == {"step": 1}


def test_loaded_tensors_outlive_the_folder(folder: Path) -> None:
    state = load_checkpoint(folder)
    shutil.rmtree(folder)
    state["weights"].add_(1)
    assert torch.equal(state["weights"], STATE["weights"] + 1)


def test_tensors_go_to_the_device_and_arrays_stay(folder: Path) -> None:
    state = load_checkpoint(folder, device="meta")
    assert state["weights"].device.type == "meta"
    np.testing.assert_array_equal(state["obs"], STATE["obs"])


def test_restored_adam_takes_bit_identical_steps(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        groups: list[dict[str, Any]] = [
            {"params": net[0].parameters(), "lr": 3e-3},
            {"params": net[2].parameters(), "betas": (0.8, 0.99)},
        ]
        return net, torch.optim.Adam(groups, lr=1e-2, amsgrad=True)

    def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: list[int]) -> None:
        for batch in batches:
            inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(batch))
            optimizer.zero_grad()
            net(inputs).pow(2).mean().backward()
            optimizer.step()

    net, optimizer = make()
    train(net, optimizer, [0, 1, 2])
    save_checkpoint(tmp_path / "c", {"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    train(net, optimizer, [3, 4, 5])

    resumed_net, resumed_optimizer = make()
    state = load_checkpoint(tmp_path / "c")
    resumed_net.load_state_dict(state["net"])
    resumed_optimizer.load_state_dict(state["optimizer"])
    train(resumed_net, resumed_optimizer, [3, 4, 5])
    for uninterrupted, resumed in zip(net.parameters(), resumed_net.parameters(), strict=True):
        assert torch.equal(uninterrupted, resumed)


@pytest.mark.parametrize("file", [TENSORS_FILE, STATE_FILE])
def test_truncation_at_any_length_is_found(folder: Path, file: str) -> None:
    path = folder / file
    content = path.read_bytes()
    for length in {0, 1, 7, 8, 9, len(content) // 2, len(content) - 1}:
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=file):
            load_checkpoint(folder)


@pytest.mark.parametrize("file", [TENSORS_FILE, STATE_FILE])
def test_any_flipped_byte_is_found(folder: Path, file: str) -> None:
    path = folder / file
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=file):
            load_checkpoint(folder)


@pytest.mark.parametrize("file", [TENSORS_FILE, STATE_FILE])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"cannot read .*{file}: No such file"):
        load_checkpoint(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")


def test_tensors_of_another_checkpoint_are_found(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", {**STATE, "weights": torch.zeros(6)})
    shutil.copy(tmp_path / "other" / TENSORS_FILE, folder / TENSORS_FILE)
    with pytest.raises(CheckpointError, match=f"{TENSORS_FILE} is truncated or corrupt"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "state.json is not valid JSON"),
        ("[1]", "state.json has format version None"),
        ('{"format_version": 99}', "state.json has format version 99; this program reads 1"),
        ('{"format_version": 1}', "state.json is corrupt"),
        ('{"format_version": 1, "state": NaN}', "state.json is not valid JSON: NaN"),
    ],
)
def test_a_wrong_state_file_is_named(folder: Path, text: str, message: str) -> None:
    (folder / STATE_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def rewrite_state(folder: Path, skeleton: object) -> None:
    """A state.json with correct checksums, as a careful forger would write it."""
    envelope = json.loads((folder / STATE_FILE).read_text())
    text = json.dumps(skeleton, separators=(",", ":"))
    envelope |= {"state": skeleton, "state_sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / STATE_FILE).write_text(json.dumps(envelope))


def test_a_forged_state_raises_and_runs_nothing(folder: Path) -> None:
    rewrite_state(folder, {"dict": [["x", {"tensor": "os.system"}]]})
    with pytest.raises(CheckpointError, match="cannot restore the state"):
        load_checkpoint(folder)
    rewrite_state(folder, [1, 2])
    with pytest.raises(CheckpointError, match="holds a list, not a dict"):
        load_checkpoint(folder)


def test_unstorable_state_writes_nothing(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['env'\]"):
        save_checkpoint(folder, {"env": object()})
    assert_is_state(load_checkpoint(folder))
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_replacing_a_checkpoint(folder: Path) -> None:
    save_checkpoint(folder, {"step": 8})
    assert load_checkpoint(folder) == {"step": 8}
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("failing_rename", [1, 2])
def test_a_failed_rename_leaves_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing_rename: int
) -> None:
    rename, calls = Path.rename, 0

    def fail_once(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == failing_rename:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint(folder, {"step": 8})
    assert_is_state(load_checkpoint(folder))
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


class _PowerCut(BaseException):
    """Stands for the death of the process: nothing after it does anything."""


def cut_power_at_rename(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    rename, calls = os.rename, 0

    def dying(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise _PowerCut
        rename(self, target)
        return target

    def no_cleaning(path: Path, ignore_errors: bool = False) -> None:
        del path, ignore_errors

    monkeypatch.setattr(Path, "rename", dying)
    monkeypatch.setattr(shutil, "rmtree", no_cleaning)


@pytest.mark.parametrize("number", [1, 2])
def test_death_while_replacing_leaves_a_whole_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        cut_power_at_rename(patch, number)
        with pytest.raises(_PowerCut):
            save_checkpoint(folder, {"step": 8})
    assert folder.exists() == (number == 1)
    assert latest_checkpoint(folder.parent) == folder
    assert_is_state(load_checkpoint(folder))

    save_checkpoint(folder, {"step": 9})
    assert load_checkpoint(folder) == {"step": 9}
    prune_checkpoints(folder.parent, keep=1)
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_death_before_the_first_rename_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cut_power_at_rename(patch, 1)
        with pytest.raises(_PowerCut):
            save_checkpoint(step_folder(tmp_path, 1), STATE)
    assert len(list(tmp_path.iterdir())) == 1
    assert latest_checkpoint(tmp_path) is None
    save_checkpoint(step_folder(tmp_path, 2), STATE)
    prune_checkpoints(tmp_path, keep=5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_00000002"]


def test_other_content_is_never_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds other files \(thesis.tex\)"):
        save_checkpoint(home, STATE)
    with pytest.raises(CheckpointError, match="a file of that name exists"):
        save_checkpoint(home / "thesis.tex", STATE)
    assert (home / "thesis.tex").read_text() == "years of work"


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*c: Not a directory"):
        save_checkpoint(tmp_path / "file" / "c", STATE)


def test_latest_goes_by_number_and_ignores_everything_else(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None
    assert latest_checkpoint(tmp_path) is None
    names = ["step_00000900", "step_00001000", "step_99999999", "step_100000000"]
    others = [".step_200000000.partial-0123abcd", "step_x", "best", "step_300000000.bak"]
    for name in names + others:
        (tmp_path / name).mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "step_100000000"


def test_step_folder() -> None:
    assert step_folder(Path("c"), 2000) == Path("c/step_00002000")
    assert step_folder(Path("c"), 123_456_789) == Path("c/step_123456789")


def test_prune_keeps_the_latest(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save_checkpoint(step_folder(tmp_path, step), {"step": step})
    (tmp_path / "best").mkdir()
    prune_checkpoints(tmp_path, keep=2)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["best", "step_00000003", "step_00000010"]
    prune_checkpoints(tmp_path / "nowhere", keep=1)


def test_prune_deletes_replaced_checkpoints_that_are_not_needed(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(step_folder(tmp_path, step), {"step": step})
    shutil.copytree(tmp_path / "step_00000001", tmp_path / ".step_00000001.previous")
    shutil.copytree(tmp_path / "step_00000002", tmp_path / ".step_00000002.previous")
    (tmp_path / "step_00000003").rename(tmp_path / ".step_00000003.previous")
    prune_checkpoints(tmp_path, keep=2)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == [".step_00000003.previous", "step_00000002"]
    assert load_checkpoint(step_folder(tmp_path, 3)) == {"step": 3}


def test_prune_refuses_to_delete_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keep: 0; allowed: integers >= 1"):
        prune_checkpoints(tmp_path, keep=0)
