"""Copies of environments, layer by layer: wrappers that change something, and what they wrap."""

import copy
import sys
from typing import Any

import gymnasium as gym

from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import EnvError
from mbrl_envs.tasks.compatibility import PASSIVE_WRAPPERS, wrapper_name

Attributes = dict[str, Any]
"""Of one layer, by name."""

NOT_COPIED = frozenset(
    {
        "_renderer", "clock", "mujoco_renderer", "render_mode", "renderer", "screen", "surf",
        "surface", "viewer", "window", "window_surface",
    }
)  # fmt: skip
"""Attributes that only draw: a simulation is never seen, and windows cannot be copied."""


def copy_layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """Return copies of an environment's layers, outermost first, that refer to each other.

    `copy.deepcopy` of the environment would call the constructor of many (`EzPickle`) instead.
    """
    layers = changing_layers(env)
    copies = [object.__new__(type(layer)) for layer in layers]
    attributes = copied_attributes(layers, stand_ins(env, copies))
    for own, values in zip(copies, attributes, strict=True):
        vars(own).update(values)
    return copies


def stand_ins(env: gym.Env[Any, Any], copies: list[gym.Env[Any, Any]]) -> dict[int, Any]:
    """Return `deepcopy`'s memo of which copy takes whose place.

    Passive wrappers, which have no copy, give way to what they wrap.
    """
    memo: dict[int, Any] = {}
    layers = changing_layers(env)
    passed: list[int] = []
    while True:
        passed.append(id(env))
        if env is layers[0]:
            memo |= dict.fromkeys(passed, copies[0])
            layers, copies, passed = layers[1:], copies[1:], []
        if not isinstance(env, gym.Wrapper):
            return memo
        env = env.env


def copied_attributes(layers: list[gym.Env[Any, Any]], memo: dict[int, Any]) -> list[Attributes]:
    """Return copies of the layers' attributes, which may refer to each other's.

    Raises:
        EnvError: If one cannot be copied.
    """
    copies = []
    for layer in layers:
        attributes: Attributes = {}
        for name, value in vars(layer).items():
            try:
                attributes[name] = None if name in NOT_COPIED else copy.deepcopy(value, memo)
            except Exception as error:
                raise EnvError(
                    f"{env_name(layers[-1])} cannot be simulated: its attribute {name!r} "
                    f"({type(value).__name__}) cannot be copied: {error}"
                ) from error
        copies.append(attributes)
    return copies


def changing_layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """Return the wrappers that may change what an environment does, outermost first, and itself."""
    layers: list[gym.Env[Any, Any]] = []
    while isinstance(env, gym.Wrapper):
        if wrapper_name(type(env).__module__, type(env).__name__) not in PASSIVE_WRAPPERS:
            layers.append(env)
        env = env.env
    return [*layers, env]


def is_mujoco(value: Any, kind: str) -> bool:
    """Whether a value is of MuJoCo's class; without importing it, which settles how it renders."""
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(value, getattr(mujoco, kind))
