"""What Ctrl-C does to a run."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from mbrl_bilevel.runs import latest_checkpoint
from tests.agents.small import assert_identical
from tests.cli.conftest import OwnModule
from tests.cli.small import TINY, final_state, metrics, resume, summary, train

pytestmark = pytest.mark.usefixtures("no_plots")

PATIENCE_S = 240.0

SIGNALLING = """
import os
import signal

import gymnasium as gym
import numpy as np


class Signalling(gym.Env):
    "Sends signals to its own process at one of its steps."

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, at=0, signals=()):
        self.num_steps, self.at, self.signals = 0, at, signals

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.obs = self.np_random.normal(size=2).astype(np.float32)
        return self.obs, {}

    def step(self, action):
        self.num_steps += 1
        self.obs = (0.9 * self.obs + 0.1 * action).astype(np.float32)
        if self.num_steps == self.at:
            for number in self.signals:
                os.kill(os.getpid(), number)
        return self.obs, float(self.obs[0]), False, False, {}


gym.register("Signalling-v0", Signalling)
"""


def test_ctrl_c_saves_and_the_run_can_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    words = [*TINY, "eval.video=false", "checkpoint.every=100000"]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    command = ["train", "pets_pendulum", *words, "total_timesteps=100000", "--run-dir", "stopped"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mbrl_bilevel", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_metrics(stopped, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    steps = summary(stopped)["env_steps"]
    assert summary(stopped)["status"] == "interrupted"
    assert 20 <= steps < 100_000
    checkpoint = latest_checkpoint(stopped / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == f"step_{steps:08d}"
    assert f"stopped at {steps} steps, saved; go on with:\n" in out
    assert out.endswith("  mbrl-bilevel train --resume --run-dir stopped\n")

    total = f"total_timesteps={steps + 30}"
    assert resume(stopped, total) == 0
    assert train(whole, *words, total) == 0
    assert_identical(final_state(stopped), final_state(whole))
    assert metrics(stopped) == metrics(whole)


def wait_for_metrics(run: Path, process: subprocess.Popen[str]) -> None:
    """Return when a run has logged its first line."""
    deadline = monotonic() + PATIENCE_S
    path = run / "metrics.jsonl"
    while not (path.exists() and path.read_text().count("\n")):
        assert process.poll() is None, process.communicate()
        assert monotonic() < deadline
        sleep(0.02)


@pytest.fixture
def handler() -> Iterator[Callable[[int, object], None]]:
    """What SIGINT and SIGTERM do in this process: nothing, lest a failure stop all tests."""

    def ignore(number: int, frame: object) -> None:
        del number, frame

    before = {number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    yield ignore
    for number, previous in before.items():
        signal.signal(number, previous)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_under_way(
    number: signal.Signals,
    handler: Callable[[int, object], None],
    own_module: OwnModule,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own_module("signalling", SIGNALLING)
    run = tmp_path / "run"
    kwargs = f"env.kwargs={{max_episode_steps: 25, at: 33, signals: [{int(number)}]}}"
    assert train(run, "env.id=signalling:Signalling-v0", kwargs) == 130
    assert summary(run)["status"] == "interrupted"
    assert summary(run)["env_steps"] == 33
    assert final_state(run)["state"]["num_timesteps"] == 33
    assert "mbrl-bilevel train --resume --run-dir" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.usefixtures("handler")
def test_a_second_ctrl_c_does_not_wait_and_leaves_an_honest_summary(
    own_module: OwnModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    own_module("signalling", SIGNALLING)
    run = tmp_path / "run"
    kwargs = "env.kwargs={max_episode_steps: 25, at: 33, signals: [2, 2]}"
    assert train(run, "env.id=signalling:Signalling-v0", kwargs) == 130
    assert "mbrl-bilevel: interrupted" in capsys.readouterr().err
    assert summary(run)["status"] == "interrupted"
    assert summary(run)["env_steps"] == 32  # the 33rd was not finished
    assert final_state(run)["state"]["num_timesteps"] == 20
