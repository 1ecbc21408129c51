"""Whether an environment instance still is the registered environment that a task describes."""

from collections.abc import Collection, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

# By name, as the packages outside Gymnasium need not be installed. A subclass is none of these.
PASSIVE_WRAPPERS = frozenset(
    {
        "gymnasium.AddWhiteNoise",
        "gymnasium.Autoreset",
        "gymnasium.HumanRendering",
        "gymnasium.ObstructView",
        "gymnasium.OrderEnforcing",
        "gymnasium.PassiveEnvChecker",
        "gymnasium.RecordEpisodeStatistics",
        "gymnasium.RecordVideo",
        "gymnasium.RenderCollection",
        "gymnasium.TimeLimit",
        "mbrl_agents.LastObservation",
        "minari.DataCollector",
        "stable_baselines3.Monitor",
    }
)
"""Wrappers that leave observations, rewards, terminations and actions alone."""

CHECKING_WRAPPERS = frozenset({"gymnasium.OrderEnforcing", "gymnasium.PassiveEnvChecker"})
"""What `gym.make` puts right around whatever the environment's entry point returns."""

FLATTENING_WRAPPER = "gymnasium.FlattenObservation"
"""Passive where it makes one vector of several observations: what a task's functions are for."""

RENDERING_KWARGS = frozenset(
    {
        "camera_id",
        "camera_name",
        "default_camera_config",
        "height",
        "max_geom",
        "render_mode",
        "visual_options",
        "width",
    }
)
"""Arguments of Gymnasium's environments that change pictures only."""


def changing_wrappers(env: gym.Env[Any, Any], spec: EnvSpec) -> list[str]:
    """Name the wrappers of `env`, innermost first, that make it differ from the registered one.

    Wrappers that belong to the registration (applied inside the entry point, or listed as
    `additional_wrappers`) do not count. Wrappers that are not known to be harmless do.
    """
    chain: list[str] = []
    harmless: set[str] = set()
    while isinstance(env, gym.Wrapper):
        name = wrapper_name(type(env).__module__, type(env).__name__)
        if name == FLATTENING_WRAPPER and _has_parts(env.env):
            harmless = {FLATTENING_WRAPPER}
        chain.insert(0, name)
        env = env.env
    checks = [index for index, name in enumerate(chain) if name in CHECKING_WRAPPERS]
    outside = chain[checks[0] :] if checks else chain
    active = [name for name in outside if name not in PASSIVE_WRAPPERS]

    registered = [
        wrapper_name(wrapper.entry_point, wrapper.name)
        for wrapper in _registered_spec(spec).additional_wrappers
    ]
    expected = [name for name in registered if name not in PASSIVE_WRAPPERS]
    if active[: len(expected)] == expected:
        return [name for name in active[len(expected) :] if name not in harmless]
    return active or ["none of its registered wrappers"]


def changed_kwargs(spec: EnvSpec, harmless: Collection[str]) -> list[str]:
    """Name the constructor arguments that differ from the registered ones and may matter."""
    registered = _registered_spec(spec).kwargs
    return [
        name
        for name, value in spec.kwargs.items()
        if name not in harmless
        and name not in RENDERING_KWARGS
        # Arguments may be arrays, whose == is no single truth value.
        and not (name in registered and np.array_equal(value, registered[name]))
    ]


def has_kwargs(spec: EnvSpec, required: Mapping[str, Any]) -> bool:
    """Whether the environment was made with all these constructor arguments."""
    return all(
        name in spec.kwargs and np.array_equal(spec.kwargs[name], value)
        for name, value in required.items()
    )


def _has_parts(env: gym.Env[Any, Any]) -> bool:
    return isinstance(env.observation_space, gym.spaces.Dict | gym.spaces.Tuple)


def _registered_spec(spec: EnvSpec) -> EnvSpec:
    """The registry's own entry; an environment made from a bare spec is what its spec says."""
    return gym.registry.get(spec.id, spec)


def wrapper_name(module: str, name: str) -> str:
    """The top-level package and the class: modules within a package move between versions."""
    return f"{module.partition('.')[0]}.{name}"
