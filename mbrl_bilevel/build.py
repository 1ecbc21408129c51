"""From names to objects, by entry points: agents and tasks of this project and of others."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym
from pydantic import create_model

from mbrl_bilevel.config import StrictConfig, TrainConfig, validate
from mbrl_bilevel.environments import full_env_id, make_env
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.types import Agent

AGENTS = "mbrl_bilevel.agents"
TASKS = "mbrl_bilevel.tasks"
TASK_FINDERS = "mbrl_bilevel.task_finders"


@dataclass(frozen=True)
class KnownEnv:
    """An environment whose exact reward or termination is known."""

    env_id: str
    exact_reward: bool
    exact_termination: bool
    kwargs: Mapping[str, Any]
    """Arguments that the environment has to be made with."""
    exact_tables: bool = False
    """It is finite, and its tables can be read."""


def agent_names() -> list[str]:
    """Return the names of the installed agents, sorted."""
    return sorted(entry_points(group=AGENTS).names)


def agent_class(name: str) -> Any:
    """Return the class of an agent.

    Raises:
        ConfigError: If no agent of that name is installed.
    """
    names = agent_names()
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"invalid value for 'agent.name': {name!r}{hint}; allowed: {', '.join(names)}"
        )
    (entry,) = entry_points(group=AGENTS, name=name)
    return entry.load()


def known_envs() -> list[KnownEnv]:
    """Return the environments of all installed tasks, with ids that `gymnasium.make` takes."""
    tasks = [task for entry in entry_points(group=TASKS) for task in entry.load()()]
    return [
        KnownEnv(
            full_env_id(gym.registry[task.env_id]),
            task.reward_fn is not None,
            task.termination_fn is not None,
            task.kwargs,
            task.tables_fn is not None,
        )
        for task in tasks
        if task.env_id in gym.registry
    ]


def find_task(env: gym.Env[Any, Any]) -> Any:
    """Return what is known of an environment (with `reward_fn` and `termination_fn`), or None."""
    for entry in entry_points(group=TASK_FINDERS):
        task = entry.load()(env)
        if task is not None:
            return task
    return None


def config_model(data: Mapping[str, Any]) -> type[TrainConfig[Any]]:
    """Return the model that a training configuration is checked against: its agent's.

    Raises:
        ConfigError: If `agent.name` is missing, or the agent is not installed.
    """
    agent = data.get("agent")
    if not isinstance(agent, Mapping) or "name" not in agent:
        raise ConfigError(f"missing key 'agent.name'; allowed: {', '.join(agent_names())}")
    found = agent_class(agent["name"])
    config_class: type[StrictConfig] = found.config_class
    model: type[TrainConfig[Any]] = TrainConfig[config_class]  # type: ignore[valid-type]
    sections: type[StrictConfig] | None = getattr(found, "sections_class", None)
    if sections is None:
        return model
    fields: dict[str, Any] = {
        name: (field.annotation, field) for name, field in sections.model_fields.items()
    }
    return create_model("TrainConfig", __base__=model, **fields)


def train_config(data: Mapping[str, Any]) -> TrainConfig[Any]:
    """Return plain data as a checked configuration.

    Raises:
        ConfigError: If anything in it is unknown, of the wrong type, or impossible.
    """
    return validate(config_model(data), data)


def build_env(config: TrainConfig[Any], render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return the configured environment."""
    return make_env(config.env.id, config.env.kwargs, render_mode)


def build_agent(config: TrainConfig[Any], env: gym.Env[Any, Any]) -> Agent:
    """Return the configured agent, untrained."""
    settings = {key: value for key, value in config.agent if key != "name"}
    agent: Agent = agent_class(config.agent.name)(
        env,
        objective=config.objective,
        model=config.model,
        seed=config.seed,
        device=config.device,
        **settings,
    )
    return agent
