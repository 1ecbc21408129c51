"""Rendering MuJoCo environments on machines without a display.

What reads the variable MUJOCO_GL (MuJoCo 4.0, Gymnasium 1.4): `import mujoco` does, once, to
choose the class behind `mujoco.Renderer`; Gymnasium's MuJoCo environments do, anew, when they
first render, and their choice is independent of the former. So setting it late is enough for
the environments, and too late only for `mujoco.Renderer`. Without display and variable, a
render fails. A graphics driver that does not work may abort the process: hence the probes run
in subprocesses.
"""

import functools
import importlib
import os
import platform
import subprocess
import sys
from typing import Any

import gymnasium as gym

from mbrl_bilevel.errors import EnvError

PROBE_TIMEOUT_S = 60.0

TRACKING_CAMERA = "track"
"""What MuJoCo's models in Gymnasium call the camera that goes with the body."""

CAMERA_ARGUMENTS = frozenset({"camera_id", "camera_name", "default_camera_config"})
"""Arguments of MuJoCo environments by which one chooses a camera oneself."""

_DISABLING_VALUES = ("disable", "disabled", "off", "false", "0")

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 2"/><geom size="0.1"/></worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, height=16, width=16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any()
"""


def prepare_headless_rendering() -> str | None:
    """Make MuJoCo environments render here, and say with what; None if nothing works.

    - MUJOCO_GL is set: it stays, and is returned (None if it disables rendering).
    - There is a display, or this is not Linux: nothing is changed, "glfw" is returned.
    - Otherwise "egl", then "osmesa" is tried in a subprocess; the first that renders is put in
      MUJOCO_GL, for this process and those it starts. On Debian they come with the packages
      libegl1, libgl1 and libosmesa6.

    Call it before the first environment renders and, for `mujoco.Renderer` to work too, before
    mujoco is imported. A probe takes about a second; its result is remembered.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    if chosen:
        return None if chosen in _DISABLING_VALUES else chosen
    if platform.system() != "Linux" or _has_display():
        return "glfw"
    for backend in ("egl", "osmesa"):
        if can_render(backend):
            os.environ["MUJOCO_GL"] = backend
            return backend
    return None


def follow_body(env: gym.Env[Any, Any]) -> None:
    """Film a MuJoCo environment by its model's camera that goes with the body, if it has one.

    Gymnasium 1.4 films from where the camera happens to stand first, and a hopper is soon out of
    the picture. A camera that the environment was made with stays, and so does any environment
    that is not MuJoCo's.
    """
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    chosen = CAMERA_ARGUMENTS & set(env.spec.kwargs if env.spec is not None else ())
    if renderer is None or chosen:
        return
    import mujoco  # here: environments without it have no use for it

    camera = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, TRACKING_CAMERA)
    if camera != -1:
        renderer.camera_id = camera


@functools.cache
def can_render(backend: str) -> bool:
    """Whether MuJoCo renders a tiny scene with this MUJOCO_GL, found out in a subprocess."""
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": backend},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def needs_mujoco(env_id: str) -> bool:
    """Whether a registered environment is simulated by MuJoCo, without importing either.

    True if the registered entry point names it, as `gymnasium.envs.mujoco.hopper_v5:HopperEnv`
    does, or is a class with a base class from such a module. An environment of one's own is
    recognised by a module or class name with "mujoco" in it. Of `"module:Id-v0"`, the module is
    imported, as `gymnasium.make` does.

    Raises:
        EnvError: there is no such environment.
    """
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        entry_point = gym.spec(name).entry_point
    except (ImportError, gym.error.Error) as error:
        raise EnvError(f"cannot look up the environment {env_id!r}: {error}") from error
    if isinstance(entry_point, type):
        sources = [f"{base.__module__}:{base.__name__}" for base in entry_point.__mro__]
    else:
        sources = [str(entry_point)]
    return any("mujoco" in source.lower() for source in sources)


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
