"""`check-env` as it is typed, on environments in a module of the current folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from mbrl_bilevel.experiments.check_env import FAULTS, recording
from mbrl_envs.tasks import base
from tests.cli.conftest import OwnModule
from tests.cli.small import cli, program, snapshot

MY_MODULE = """
import gymnasium as gym
import numpy as np

from mbrl_envs import register_task


class MyEnv(gym.Env):
    "A mass on a line: push it to the middle."

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, mass=1.0):
        self.mass = mass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1.0, 1.0, size=2)
        return self.state.astype(np.float32), {}

    def step(self, action):
        x, v = self.state
        v += 0.1 * float(action[0]) / self.mass
        self.state = np.array([x + 0.1 * v, v])
        return self.state.astype(np.float32), -self.state[0] ** 2, False, False, {}


def reward_fn(obs, action, next_obs):
    return -next_obs[..., 0].square()


gym.register("MyEnv-v0", MyEnv, max_episode_steps=25)
register_task("MyEnv-v0", reward_fn=reward_fn, harmless_kwargs=["mass"])
"""

# One line of the module replaced, and the code of what that breaks.
BROKEN: dict[str, tuple[str, str, str]] = {
    "wrong dtype": (
        "return self.state.astype(np.float32), -self",
        "return self.state, -self",
        "obs_dtype",
    ),
    "non-deterministic reset": (
        "self.np_random.uniform",
        "np.random.uniform",
        "reset_not_deterministic",
    ),
    "reward nan": ("-self.state[0] ** 2", "np.sqrt(-abs(self.state[0]))", "reward_not_finite"),
    "done never true": (", max_episode_steps=25", "", "never_ends"),
    "outside its space": (
        "Box(-np.inf, np.inf, (2,)",
        "Box(-0.5, 0.5, (2,)",
        "obs_outside_space",
    ),
}


@pytest.fixture(autouse=True)
def _forget_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_TASKS", dict(base._TASKS))


@pytest.fixture
def my_module(own_module: OwnModule) -> None:
    own_module("checked_module", MY_MODULE)


def checked(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.usefixtures("my_module")
def test_a_sound_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli("check-env", "checked_module:MyEnv-v0", "--json", "report.json")
    out, err = capsys.readouterr()
    assert (status, err) == (0, "recording random actions\n")
    assert out.startswith("checked_module:MyEnv-v0\n  observation  Box(-inf, inf, (2,), float32)\n")
    assert "\n  reward       registered; largest error " in out
    assert out.endswith("\nnothing found\n")
    report = checked(tmp_path / "report.json")
    assert (report["num_errors"], report["findings"]) == (0, [])


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_a_broken_environment(
    case: str,
    tmp_path: Path,
    own_module: OwnModule,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "MAX_EPISODE_STEPS", 300)
    old, new, code = BROKEN[case]
    assert MY_MODULE.count(old) == 1
    own_module("checked_module", MY_MODULE.replace(old, new))
    status = cli("check-env", "checked_module:MyEnv-v0", "--episodes", 3, "--json", "r.json")
    assert status == 1
    report = checked(tmp_path / "r.json")
    own = {f["code"] for f in report["findings"] if not f["code"].startswith("gymnasium")}
    # The exact reward cannot be compared with one that is nan.
    assert own == {code}
    out = capsys.readouterr().out
    finding = next(f for f in report["findings"] if f["code"] == code)
    assert finding["severity"] == "error"
    assert f"error     {code}\n" in out
    for part in ("what", "meaning", "advice"):
        assert " ".join(finding[part].split()[:4]) in " ".join(out.split())
    assert finding["meaning"] == FAULTS[code].meaning


@pytest.mark.usefixtures("my_module")
def test_arguments_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--episodes", 1, "--seed", 3, "--kwargs", "mass=2.5", "max_episode_steps=7")
    assert cli("check-env", "checked_module:MyEnv-v0", *words) == 0
    assert "1 episodes of 7 to 7 steps of random actions; time limit 7" in capsys.readouterr().out


@pytest.mark.usefixtures("my_module")
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["Pendulm-v1"], ["env.id='Pendulm-v1' is not known", "Did you mean: `Pendulum`"]),
        (["checked_module:MyEvn-v0"], ["is not known", "Did you mean: `MyEnv`"]),
        (["nowhere:MyEnv-v0"], ["no module 'nowhere' can be imported"]),
        (["checked_module:MyEnv-v0", "--kwargs", "mas=2"], ["{'mas': 2}", "do not fit", "'mas'"]),
        (["checked_module:MyEnv-v0", "--kwargs", "mass"], ["'kwargs.mass' is not of the form"]),
        (["checked_module:MyEnv-v0", "--seed", "-1"], ["seed: -1; allowed: integers >= 0"]),
        (["checked_module:MyEnv-v0", "--json", "no/r.json"], ["its folder does not exist"]),
    ],
)
def test_bad_input_is_refused(
    words: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(tmp_path)
    assert cli("check-env", *words) == 2
    out, err = capsys.readouterr()
    assert (out, "Traceback" in err) == ("", False)
    for part in parts:
        assert part in err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("words", [["--episodes", "0"], ["--episodes", "many"], ["another"]])
def test_what_is_no_command_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("check-env", "Pendulum-v1", *words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_module_in_the_current_folder_is_found_by_the_program(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MY_MODULE)
    result = program("check-env", "my_module:MyEnv-v0", "--episodes", 1, cwd=tmp_path)
    assert (result.returncode, "nothing found" in result.stdout) == (0, True), result.stderr
