import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import gymnasium as gym
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from mbrl_bilevel.errors import EnvError
from mbrl_bilevel.evaluation import (
    follow_body,
    needs_mujoco,
    prepare_headless_rendering,
    rendering,
)


@pytest.fixture(autouse=True)
def _no_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Linux machine without display; the environment variables are restored afterwards."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    rendering.can_render.cache_clear()
    with mock.patch.dict(os.environ):
        for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
            os.environ.pop(name, None)
        yield
    rendering.can_render.cache_clear()


class FakeProbe:
    """Stands in for `subprocess.run`; the `working` backends render, the others abort."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, working: set[str]) -> None:
        self.working = working
        self.tried: list[str] = []
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        self.tried.append(settings["env"]["MUJOCO_GL"])
        return subprocess.CompletedProcess(command, 0 if self.tried[-1] in self.working else -6)


@pytest.mark.parametrize(
    ("working", "tried", "chosen"),
    [
        ({"egl", "osmesa"}, ["egl"], "egl"),
        ({"osmesa"}, ["egl", "osmesa"], "osmesa"),
        (set[str](), ["egl", "osmesa"], None),
    ],
)
def test_first_backend_that_renders_is_chosen(
    working: set[str], tried: list[str], chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = FakeProbe(monkeypatch, working)
    assert prepare_headless_rendering() == chosen
    assert os.environ.get("MUJOCO_GL") == chosen
    assert prepare_headless_rendering() == chosen
    assert probe.tried == tried  # not again by the second call


@pytest.mark.parametrize(
    ("value", "returned"), [("osmesa", "osmesa"), ("EGL", "egl"), ("glfw", "glfw"), ("off", None)]
)
def test_the_users_choice_stays(
    value: str, returned: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = FakeProbe(monkeypatch, {"egl"})
    os.environ["MUJOCO_GL"] = value
    assert prepare_headless_rendering() == returned
    assert os.environ["MUJOCO_GL"] == value
    assert probe.tried == []


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_display_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = FakeProbe(monkeypatch, {"egl"})
    os.environ[name] = ":0"
    assert prepare_headless_rendering() == "glfw"
    assert "MUJOCO_GL" not in os.environ
    assert probe.tried == []


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = FakeProbe(monkeypatch, set())
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert prepare_headless_rendering() == "glfw"
    assert probe.tried == []


def test_a_probe_that_hangs_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert not rendering.can_render("egl")


def test_real_probe_of_a_backend_that_does_not_exist() -> None:
    assert not rendering.can_render("nonsense")


def run_rendering(script: str) -> None:
    """Run a script in a process of its own, where it may render."""
    start = """
import mujoco
import gymnasium as gym
from mbrl_bilevel.evaluation import follow_body, prepare_headless_rendering
if prepare_headless_rendering() is None:
    raise SystemExit("no backend")
"""
    result = subprocess.run(
        [sys.executable, "-c", start + script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.stderr.endswith("no backend\n"):
        pytest.skip("neither EGL nor OSMesa is installed")
    assert result.returncode == 0, result.stderr


def test_real_environment_renders_even_if_mujoco_was_imported_before() -> None:
    run_rendering("""
env = gym.make("Hopper-v5", render_mode="rgb_array")
env.reset(seed=0)
frame = env.render()
env.close()
assert frame.std() > 0
""")


def test_a_hopper_stays_in_the_picture_wherever_it_gets() -> None:
    run_rendering("""
env = gym.make("Hopper-v5", render_mode="rgb_array")
follow_body(env)
env.reset(seed=0)
def num_orange():
    red, _, blue = env.render().astype(int).transpose(2, 0, 1)
    return (red > blue + 30).sum()
begin = num_orange()
position = env.unwrapped.data.qpos.copy()
position[0] += 10.0
env.unwrapped.set_state(position, env.unwrapped.data.qvel)
assert begin > 500
assert num_orange() > 0.9 * begin
env.close()
""")


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "InvertedPendulum-v5"])
def test_without_a_camera_that_follows_nothing_changes(env_id: str) -> None:
    env = gym.make(env_id, render_mode="rgb_array")
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    before = None if renderer is None else renderer.camera_id
    follow_body(env)
    assert before == (None if renderer is None else renderer.camera_id)
    env.close()


@pytest.mark.parametrize(
    "arguments", [{"camera_id": -1}, {"default_camera_config": {"distance": 9.0}}]
)
def test_a_camera_of_ones_own_stays(arguments: dict[str, Any]) -> None:
    env = gym.make("Hopper-v5", render_mode="rgb_array", **arguments)
    follow_body(env)
    renderer: Any = env.unwrapped.mujoco_renderer  # type: ignore[attr-defined]
    assert renderer.camera_id == -1
    env.close()


def test_looking_up_an_environment_does_not_import_mujoco() -> None:
    script = """
import sys
from mbrl_bilevel.evaluation import needs_mujoco
assert needs_mujoco("Hopper-v5")
assert "mujoco" not in sys.modules
"""
    subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )


class OwnHopper(HopperEnv):
    pass


@pytest.mark.parametrize(
    ("entry_point", "expected"),
    [
        (OwnHopper, True),
        ("my_package.mujoco_tasks:Arm", True),
        ("my_package:MujocoArm", True),
        ("my_package:Arm", False),
        (lambda: None, False),
    ],
)
def test_own_environments(
    entry_point: Any, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    gym.register("Own-v0", entry_point=entry_point)
    assert needs_mujoco("Own-v0") is expected


def test_known_environments() -> None:
    assert needs_mujoco("InvertedPendulum-v5")
    assert needs_mujoco("gymnasium.envs:Hopper-v5")
    assert not needs_mujoco("Pendulum-v1")


@pytest.mark.parametrize("env_id", ["Hoper-v5", "no_such_package:Arm-v0", "a:b:c"])
def test_unknown_environments_are_errors(env_id: str) -> None:
    with pytest.raises(EnvError, match=f"cannot look up the environment '{env_id}'"):
        needs_mujoco(env_id)
