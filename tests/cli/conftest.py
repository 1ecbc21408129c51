"""Settings of the command line's tests."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from tests.cli.fits import write_npz
from tests.cli.small import train

OwnModule = Callable[[str, str], None]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of 60 steps, with plots and video. Copy it before anything is changed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert train(run, "eval.video=true") == 0
    return run


@pytest.fixture(autouse=True)
def _own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder; undo what the command line changes in its process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: plots take most of a tiny run's time."""
    module = importlib.import_module("mbrl_bilevel.experiments.train")
    monkeypatch.setattr(module, "write_plots", lambda *_: None)


@pytest.fixture
def own_module(tmp_path: Path) -> Iterator[OwnModule]:
    """Writes a module into the current folder; what it registers is forgotten afterwards."""
    known_ids, names = set(gym.registry), []

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        names.append(name)

    yield write
    for env_id in set(gym.registry) - known_ids:
        del gym.registry[env_id]
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten episodes, to fit models to."""
    return write_npz(tmp_path_factory.mktemp("fit") / "points.npz")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing of fits: pictures take most of the time of tiny ones."""
    module = importlib.import_module("mbrl_bilevel.experiments.fit.outcome")
    monkeypatch.setattr(module, "write_pictures", lambda *_: None)
