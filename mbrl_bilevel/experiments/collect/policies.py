"""Who acts while a dataset is recorded."""

import copy
import hashlib
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from mbrl_bilevel import build
from mbrl_bilevel.config import (
    AgentPolicyConfig,
    CollectConfig,
    RandomPolicyConfig,
    SB3PolicyConfig,
    load_data,
)
from mbrl_bilevel.errors import CheckpointError, ConfigError
from mbrl_bilevel.evaluation import initial_state
from mbrl_bilevel.runs import RunDir, latest_checkpoint, seed_everything
from mbrl_bilevel.types import Predictor


class Policy(Protocol):
    """Acts in one episode after another."""

    def start(self, seed: int) -> None:
        """Begin an episode; what is random in it depends on the seed alone."""
        ...

    def act(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return the environment's action for an observation `[D_obs]`."""
        ...


class RandomPolicy:
    """Draws from the action space.

    Args:
        space: Of the actions; copied, as it is seeded.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self._space = copy.deepcopy(space)

    def start(self, seed: int) -> None:
        self._space.seed(seed)

    def act(self, obs: NDArray[Any]) -> NDArray[Any]:
        del obs
        return np.asarray(self._space.sample())


class PredictorPolicy:
    """Acts by the `predict` of an agent, of this project or of Stable-Baselines3.

    Args:
        predictor: May draw from the global generators, or from a `torch.Generator` that is its
            attribute `generator`.
        deterministic: Handed on to it.
        env: Where it acts.
    """

    def __init__(self, predictor: Predictor, deterministic: bool, env: gym.Env[Any, Any]) -> None:
        self._predictor = predictor
        self._env = env
        self._deterministic = deterministic
        self._state: Any = None
        self._is_start = True

    def start(self, seed: int) -> None:
        seed_everything(seed)
        generator = getattr(self._predictor, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        self._state, self._is_start = initial_state(self._predictor, [self._env]), True

    def act(self, obs: NDArray[Any]) -> NDArray[Any]:
        action, self._state = self._predictor.predict(
            obs, self._state, np.array([self._is_start]), deterministic=self._deterministic
        )
        self._is_start = False
        return np.asarray(action)


def describe_policy(config: CollectConfig) -> dict[str, Any]:
    """Return what tells the policy from others, down to the weights that it has by now.

    Raises:
        MBRLError: If the file or the run that it is loaded from is not there.
    """
    policy = config.policy
    description = policy.model_dump()
    if isinstance(policy, SB3PolicyConfig) and policy.path is not None:
        try:
            content = Path(policy.path).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"policy.path={policy.path!r} cannot be read: {error.strerror or error}"
            ) from None
        description["sha256"] = hashlib.sha256(content).hexdigest()
    if isinstance(policy, AgentPolicyConfig):
        description["checkpoint"] = _checkpoint(policy).name
    return description


def policy_label(config: CollectConfig) -> str:
    """Return the policy in a few words: the dataset's `algorithm_name`."""
    policy = config.policy
    if isinstance(policy, RandomPolicyConfig):
        return "random"
    way = "deterministic" if policy.deterministic else "stochastic"
    if isinstance(policy, AgentPolicyConfig):
        run = RunDir.open(Path(policy.run))
        agent = build.train_config(load_data(run.config_path)).agent.name
        return f"{agent} at {_checkpoint(policy).name}, {way}"
    source = f"from {policy.path}" if policy.path else f"after {policy.train_steps} steps"
    return f"SB3 {policy.algorithm.upper()} {source}, {way}"


def load_agent(config: AgentPolicyConfig, env: gym.Env[Any, Any], device: str) -> Predictor:
    """Return the agent of a run, as its newest checkpoint has it.

    Raises:
        ConfigError: If its environment has other spaces than this one.
        MBRLError: If there is no such run, or its checkpoint is missing or damaged.
    """
    run = RunDir.open(Path(config.run))
    checkpoint = _checkpoint(config)
    train_config = build.train_config(load_data(run.config_path, [f"device={device}"]))
    own_env = build.build_env(train_config)
    for what in ("observation_space", "action_space"):
        trained, here = getattr(own_env, what), getattr(env, what)
        if trained != here:
            raise ConfigError(
                f"policy.run={config.run!r} was trained in {train_config.env.id!r} with the "
                f"{what.replace('_', ' ')} {trained}, this environment has {here}"
            )
    agent = build.build_agent(train_config, own_env)
    agent.restore(checkpoint)
    return agent


def _checkpoint(config: AgentPolicyConfig) -> Path:
    checkpoints = RunDir.open(Path(config.run)).checkpoints
    checkpoint = latest_checkpoint(checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{checkpoints} holds no checkpoint: nothing to act with yet")
    return checkpoint
