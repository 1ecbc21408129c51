"""Agents on disk: settings and state, without any code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gymnasium as gym

from mbrl_agents.settings import EnsembleSections, agent_settings, section_settings
from mbrl_bilevel.config import StrictConfig
from mbrl_bilevel.environments import full_env_id, make_env
from mbrl_bilevel.errors import CheckpointError, ConfigError
from mbrl_bilevel.runs import (
    capture_rng_state,
    load_checkpoint,
    restore_rng_state,
    save_checkpoint,
)
from mbrl_envs.tasks.compatibility import changing_wrappers


class SavedAgent(Protocol):
    """What is stored of an agent: what it is made with, and its state.

    A class with a `sections_class` (see `mbrl_bilevel.types.Agent`) has its objective and model
    checked by that.
    """

    seed: int

    @property
    def config(self) -> StrictConfig:
        """Its own settings."""
        ...

    @property
    def model_config(self) -> StrictConfig:
        """The settings of its model."""
        ...

    @property
    def objective_config(self) -> StrictConfig:
        """What the model is trained by."""
        ...

    @property
    def env(self) -> gym.Env[Any, Any]:
        """The environment that it acts in."""
        ...

    @property
    def learns(self) -> Mapping[str, bool]:
        """Whether it learns the `reward` and the `termination`; else they are exact."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that it goes on from."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


AgentT = TypeVar("AgentT", bound=SavedAgent)


def save_agent(agent: SavedAgent, path: Path) -> None:
    """Write `agent` to the folder `path`, in one step."""
    save_checkpoint(
        path,
        {
            **_settings(agent),
            "env": _env_arguments(agent.env),
            "learns": dict(agent.learns),
            "state": agent.state_dict(),
            "global_rng": capture_rng_state(),
        },
    )


class SavesItself:
    """`save` and `restore` of a `SavedAgent`, to inherit."""

    def save(self: SavedAgent, path: str | Path) -> None:
        """Write the whole agent, all that it has recorded included, to the folder `path`."""
        save_agent(self, Path(path))

    def restore(self: SavedAgent, path: str | Path) -> None:
        """Go on, in place, from what was saved to `path`; the global generators too.

        Raises:
            CheckpointError: If the folder is damaged, or of an agent with other settings.
        """
        saved = load_checkpoint(Path(path))
        restore_agent(self, saved, Path(path))
        restore_rng_state(saved["global_rng"])


def load_agent(
    agent_class: Callable[..., AgentT],
    path: Path,
    env: gym.Env[Any, Any] | str | None,
    **arguments: Any,
) -> AgentT:
    """Return the agent in `path`; see `ModelBasedAgent.load`."""
    saved = load_checkpoint(path)
    _refuse_other_content(saved, path)
    if env is None:
        if saved["env"] is None:
            raise CheckpointError(
                f"{path}: the agent's environment was made or wrapped by hand and cannot be made "
                "by an id; hand it in as env="
            )
        env = make_env(saved["env"]["id"], saved["env"]["kwargs"])
    settings = {key: value for key, value in saved["agent"].items() if key != "name"}
    agent = agent_class(
        env,
        objective=saved["objective"],
        model=saved["model"],
        seed=saved["seed"],
        **arguments,
        **settings,
    )
    restore_agent(agent, saved, path)
    return agent


def restore_agent(agent: SavedAgent, saved: Mapping[str, Any], path: Path) -> None:
    """Put what was read from the checkpoint `path` into an agent made with the same settings.

    Raises:
        CheckpointError: If it does not fit.
    """
    _refuse_other_content(saved, path)
    saved_settings = _saved_settings(agent, saved, path)
    for section, settings in _settings(agent).items():
        if saved_settings[section] != settings:
            raise CheckpointError(
                f"{path}: the agent was saved with {section}={saved_settings[section]}, but this "
                f"one has {section}={settings}"
            )
    if saved["learns"] != agent.learns:
        raise CheckpointError(
            f"{path}: the agent was saved with {_describe(saved['learns'])}, but is loaded with "
            f"{_describe(agent.learns)}; hand in the same reward_fn and termination_fn"
        )
    try:
        agent.load_state_dict(saved["state"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the agent: {error}") from error


def _refuse_other_content(saved: Mapping[str, Any], path: Path) -> None:
    expected = {"agent", "model", "objective", "seed", "env", "learns", "state", "global_rng"}
    if missing := sorted(expected - saved.keys()):
        raise CheckpointError(f"{path} is not an agent's checkpoint: it has no {missing[0]!r}")


def _settings(agent: SavedAgent) -> dict[str, Any]:
    """Return what an agent is made with, as plain values."""
    return {
        "agent": agent.config.model_dump(mode="json"),
        "model": agent.model_config.model_dump(mode="json"),
        "objective": agent.objective_config.model_dump(mode="json"),
        "seed": agent.seed,
    }


def _saved_settings(agent: SavedAgent, saved: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings in a checkpoint; those that came after it have their defaults."""
    sections_class = getattr(type(agent), "sections_class", EnsembleSections)
    try:
        sections = section_settings(sections_class, saved["objective"], saved["model"])
        return {
            "agent": agent_settings(type(agent.config), saved["agent"]).model_dump(mode="json"),
            **sections.model_dump(mode="json"),
            "seed": saved["seed"],
        }
    except ConfigError as error:
        raise CheckpointError(f"{path} has settings that are not known here: {error}") from error


def _env_arguments(env: gym.Env[Any, Any]) -> dict[str, Any] | None:
    """Return what makes such an environment; None if its id alone does not."""
    spec = env.spec
    if spec is None or spec.id not in gym.registry or changing_wrappers(env, spec):
        return None
    kwargs = dict(spec.kwargs)
    if spec.max_episode_steps != gym.registry[spec.id].max_episode_steps:
        kwargs["max_episode_steps"] = spec.max_episode_steps
    return {"id": full_env_id(spec), "kwargs": kwargs}


def _describe(learns: Mapping[str, bool]) -> str:
    return " and ".join(f"{'a learned' if v else 'an exact'} {k}" for k, v in learns.items())
