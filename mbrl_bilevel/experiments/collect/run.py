"""Records a Minari dataset with a policy."""

import copy
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from mbrl_bilevel.config import AgentPolicyConfig, CollectConfig, RandomPolicyConfig
from mbrl_bilevel.data import ActionCodec, observation_size
from mbrl_bilevel.data.datasets import (
    MinariEpisode,
    datasets_root,
    write_minari,
    write_namespaces,
)
from mbrl_bilevel.environments import make_env
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.evaluation import needs_mujoco
from mbrl_bilevel.evaluation.files import replacing
from mbrl_bilevel.experiments.collect.policies import (
    Policy,
    PredictorPolicy,
    RandomPolicy,
    describe_policy,
    load_agent,
    policy_label,
)
from mbrl_bilevel.experiments.collect.progress import collect_progress
from mbrl_bilevel.experiments.collect.record import record_episode
from mbrl_bilevel.experiments.collect.unfinished import UnfinishedDataset
from mbrl_bilevel.runs import TrainingProgress, derive_seed, resolve_device, versions
from mbrl_bilevel.runs.files import os_reason


def collect(config: CollectConfig, *, show_progress: bool = True) -> dict[str, Any]:
    """Record episodes and write them as a Minari dataset.

    Episode i depends on the configuration, the policy and i alone. Each is kept as it ends: an
    interrupted collection goes on with the next one when it is started again, and the dataset
    appears when it is complete.

    Args:
        config: What to record.
        show_progress: On stderr.

    Returns:
        `status` (`"completed"`, or `"interrupted"` by Ctrl-C), `dataset_id`, `path`,
        `num_episodes`; and, of a complete one, `num_steps`, `return_mean`, `return_std`.

    Raises:
        MBRLError: If the environment, the policy or the folder is at fault, or the dataset exists.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    root = Path(config.dataset.root) if config.dataset.root is not None else datasets_root()
    env = make_env(config.env.id, config.env.kwargs)
    observation_size(env.observation_space)
    ActionCodec(env.action_space)
    unfinished = UnfinishedDataset(root / config.dataset.id)
    record = _record(config)
    unfinished.check(record)
    result: dict[str, Any] = {
        "dataset_id": config.dataset.id,
        "path": str(unfinished.dataset),
        "num_episodes": config.episodes,
    }
    try:
        policy = _make_policy(config, env, unfinished, record, show_progress)
        _record_episodes(config, env, policy, unfinished, show_progress)
        returns, num_steps = _write_dataset(config, env, unfinished)
    except KeyboardInterrupt:
        kept = min(unfinished.num_episodes, config.episodes)
        return {**result, "status": "interrupted", "num_episodes": kept}
    finally:
        env.close()
    write_namespaces(root, config.dataset.id)
    return {
        **result,
        "status": "completed",
        "num_steps": num_steps,
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
    }


def _record(config: CollectConfig) -> dict[str, Any]:
    """What two collections must share to be parts of one."""
    settings = config.model_dump(include={"env", "seed"})
    return {**settings, "policy": describe_policy(config)}


def _make_policy(
    config: CollectConfig,
    env: gym.Env[Any, Any],
    unfinished: UnfinishedDataset,
    record: dict[str, Any],
    show_progress: bool,
) -> Policy:
    """Return the policy, trained if it has to be, and the folder made: nothing else can fail."""
    device = str(resolve_device(config.device))
    if isinstance(config.policy, RandomPolicyConfig):
        unfinished.create(record)
        return RandomPolicy(env.action_space)
    if isinstance(config.policy, AgentPolicyConfig):
        agent = load_agent(config.policy, env, config.device)
        unfinished.create(record)
        return PredictorPolicy(agent, config.policy.deterministic, env)

    from mbrl_bilevel.experiments.collect.sb3 import load_sb3, make_sb3, train_sb3

    if config.policy.path is not None or unfinished.policy_path.is_file():
        path = Path(config.policy.path or unfinished.policy_path)
        model = load_sb3(config.policy.algorithm, path, env, device)
        unfinished.create(record)
    else:
        training_env = make_env(config.env.id, config.env.kwargs)
        seed = derive_seed(config.seed, "training")
        model = make_sb3(config.policy, training_env, seed, device)
        unfinished.create(record)
        with TrainingProgress(config.policy.train_steps, enabled=show_progress) as progress:
            train_sb3(model, config.policy.train_steps, progress)
        training_env.close()
        with replacing(unfinished.policy_path) as temporary:
            model.save(temporary)
    return PredictorPolicy(model, config.policy.deterministic, env)


def _record_episodes(
    config: CollectConfig,
    env: gym.Env[Any, Any],
    policy: Policy,
    unfinished: UnfinishedDataset,
    show_progress: bool,
) -> None:
    start = min(unfinished.num_episodes, config.episodes)
    with collect_progress(config.episodes, start, enabled=show_progress) as advance:
        for index in range(start, config.episodes):
            episode = record_episode(
                env,
                policy,
                env_seed=derive_seed(config.seed, "episode", index),
                policy_seed=derive_seed(config.seed, "policy", index),
            )
            unfinished.save_episode(index, episode)
            advance(float(episode.rewards.sum()))


def _write_dataset(
    config: CollectConfig, env: gym.Env[Any, Any], unfinished: UnfinishedDataset
) -> tuple[list[float], int]:
    """Make the dataset of the recorded episodes; return their returns, and all their steps."""
    returns: list[float] = []
    num_steps = 0

    def counted() -> Iterator[MinariEpisode]:
        nonlocal num_steps
        for episode in unfinished.episodes(config.episodes):
            returns.append(float(episode.rewards.sum()))
            num_steps += len(episode.rewards)
            yield episode

    try:
        draft = unfinished.draft()
        write_minari(
            draft,
            counted(),
            dataset_id=config.dataset.id,
            observation_space=env.observation_space,
            action_space=env.action_space,
            env_spec=_portable_spec(env),
            metadata=_metadata(config),
        )
        unfinished.finish(draft)
    except OSError as error:
        raise MBRLError(f"cannot write {unfinished.dataset}: {os_reason(error)}") from error
    return returns, num_steps


def _portable_spec(env: gym.Env[Any, Any]) -> EnvSpec | None:
    """Return what the environment can be made from elsewhere, if anything."""
    spec = copy.deepcopy(env.spec)
    if spec is None:
        return None
    if isinstance(spec.entry_point, type):
        spec.entry_point = f"{spec.entry_point.__module__}:{spec.entry_point.__qualname__}"
    try:
        spec.to_json()
    except (TypeError, ValueError):  # arguments that JSON cannot hold, a factory function
        return None
    return spec


def _metadata(config: CollectConfig) -> dict[str, Any]:
    label = policy_label(config)
    found = versions()
    packages = ["minari"]
    required = ["gymnasium", "mujoco"] if needs_mujoco(config.env.id) else ["gymnasium"]
    if config.policy.name == "sb3":
        packages.append("stable-baselines3")
    found |= {name: importlib.metadata.version(name) for name in packages}
    return {
        "env_id": config.env.id,
        "algorithm_name": label,
        "description": f"{config.env.id}, {config.episodes} episodes, policy {label}",
        "policy": describe_policy(config),
        "seed": config.seed,
        "versions": found,
        "requirements": [f"{name}=={found[name]}" for name in required],
    }
