"""Algorithms of Stable-Baselines3 by their names, with settings as plain values."""

import copy
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mbrl_agents.policies.randomness import OwnRandomness
from mbrl_agents.policies.settings import check_settings, policy_arguments
from mbrl_bilevel.errors import ConfigError

SB3, CONTRIB = "stable_baselines3", "sb3_contrib"
CONTINUOUS, DISCRETE = ("Box",), ("Discrete",)


@dataclass(frozen=True)
class KnownAlgorithm:
    """Where an algorithm is to be found, and what it can do."""

    package: str
    class_name: str
    off_policy: bool
    action_spaces: tuple[str, ...]


ALGORITHMS: Mapping[str, KnownAlgorithm] = {
    "a2c": KnownAlgorithm(SB3, "A2C", False, CONTINUOUS + DISCRETE),
    "crossq": KnownAlgorithm(CONTRIB, "CrossQ", True, CONTINUOUS),
    "ddpg": KnownAlgorithm(SB3, "DDPG", True, CONTINUOUS),
    "dqn": KnownAlgorithm(SB3, "DQN", True, DISCRETE),
    "ppo": KnownAlgorithm(SB3, "PPO", False, CONTINUOUS + DISCRETE),
    "qrdqn": KnownAlgorithm(CONTRIB, "QRDQN", True, DISCRETE),
    "sac": KnownAlgorithm(SB3, "SAC", True, CONTINUOUS),
    "td3": KnownAlgorithm(SB3, "TD3", True, CONTINUOUS),
    "tqc": KnownAlgorithm(CONTRIB, "TQC", True, CONTINUOUS),
    "trpo": KnownAlgorithm(CONTRIB, "TRPO", False, CONTINUOUS + DISCRETE),
}
"""Those of Stable-Baselines3, and of sb3-contrib, which need not be installed."""


class SpacesOnly(gym.Env[Any, Any]):
    """Spaces without an environment: for algorithms that are never asked to act on their own."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space


def make_algorithm(
    name: str,
    env: VecEnv | gym.Env[Any, Any],
    settings: Mapping[str, Any],
    seed: int,
    device: torch.device | str,
    *,
    fixed: Mapping[str, Any] | None = None,
    kind: Literal["on_policy", "off_policy"] | None = None,
) -> BaseAlgorithm:
    """Return an algorithm with an `MlpPolicy`, that logs to nowhere.

    Its weights depend on the seed alone, and the global generators are left as they were. What it
    does later draws from the global ones (see `OwnRandomness`) and, for random actions, from its
    action space's, which is a copy seeded here.

    Args:
        name: A key of `ALGORITHMS`.
        env: What it trains in, or `SpacesOnly`.
        settings: Its keyword arguments as plain values; `net_arch` and `activation_fn` (by name)
            may be given beside or within `policy_kwargs`, `action_noise` as a standard deviation
            of actions scaled to -1..1.
        seed: Of the weights.
        device: Where the networks live.
        fixed: Arguments that the caller decides on: settings may not have them.
        kind: What it has to be; None: either.

    Raises:
        ConfigError: If name, kind, spaces or a setting do not fit; the message says what does.
    """
    known = _known(name)
    is_kind = "off_policy" if known.off_policy else "on_policy"
    if kind is not None and kind != is_kind:
        fitting = [n for n, a in ALGORITHMS.items() if a.off_policy != known.off_policy]
        raise ConfigError(
            f"invalid value for 'algorithm': {name!r} is {is_kind}; allowed: {', '.join(fitting)}"
        )
    _check_action_space(name, known, env.action_space)
    algorithm_class = _load(name, known)
    fixed = fixed or {}
    check_settings(name, algorithm_class, settings, fixed)
    arguments = policy_arguments(settings)
    if known.off_policy and known.package == SB3:
        # Their updates are small and many: it is an eighth of SAC's time. Others have defaults of
        # their own for Adam, which any argument would replace.
        policy_kwargs = arguments["policy_kwargs"]
        given = policy_kwargs.get("optimizer_kwargs") or {}
        policy_kwargs["optimizer_kwargs"] = {"fused": True} | given
    if (scale := arguments.get("action_noise")) is not None:
        arguments["action_noise"] = _normal_noise(scale, env.action_space)
    try:
        with OwnRandomness(seed).use():
            algorithm: BaseAlgorithm = algorithm_class(
                "MlpPolicy", env, device=device, **arguments, **fixed
            )
    except (AssertionError, TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be made with {dict(settings)}: {error}") from error
    algorithm.action_space = copy.deepcopy(algorithm.action_space)
    algorithm.action_space.seed(seed)
    algorithm.set_logger(Logger(folder=None, output_formats=[]))
    return algorithm


def is_off_policy(algorithm: BaseAlgorithm) -> bool:
    """Whether an algorithm learns from a replay buffer."""
    return isinstance(algorithm, OffPolicyAlgorithm)


def _known(name: str) -> KnownAlgorithm:
    if name not in ALGORITHMS:
        raise ConfigError(
            f"invalid value for 'algorithm': {name!r}; allowed: {', '.join(ALGORITHMS)}"
        )
    return ALGORITHMS[name]


def _check_action_space(name: str, known: KnownAlgorithm, space: gym.Space[Any]) -> None:
    kind = type(space).__name__
    if kind not in known.action_spaces:
        fitting = [n for n, a in ALGORITHMS.items() if kind in a.action_spaces]
        raise ConfigError(
            f"algorithm {name!r} acts in {' or '.join(known.action_spaces)} spaces, but the "
            f"environment's is {space}; allowed for it: {', '.join(fitting) or 'none'}"
        )
    if isinstance(space, spaces.Discrete) and space.start != 0:
        raise ConfigError(
            f"action space {space} starts at {space.start}; Stable-Baselines3 counts actions "
            "from 0: allowed: start=0"
        )


def _load(name: str, known: KnownAlgorithm) -> Any:
    try:
        module = importlib.import_module(known.package)
    except ImportError as error:
        installed = [n for n, a in ALGORITHMS.items() if a.package == SB3]
        raise ConfigError(
            f"algorithm {name!r} needs the package sb3-contrib, which is not installed; "
            f"allowed without it: {', '.join(installed)}"
        ) from error
    return getattr(module, known.class_name)


def _normal_noise(scale: Any, space: gym.Space[Any]) -> NormalActionNoise:
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not scale >= 0:
        raise ConfigError(f"invalid value for 'action_noise': {scale!r}; allowed: 0 or more")
    size = int(np.prod(space.shape or ()))
    return NormalActionNoise(np.zeros(size), np.full(size, scale))
