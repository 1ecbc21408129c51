"""Agents on disk: settings and state, without any code."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym

from mbrl_bilevel.environments import make_env
from mbrl_bilevel.errors import CheckpointError
from mbrl_bilevel.runs import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from mbrl_agents.pets import PETS

AgentT = TypeVar("AgentT", bound="PETS")


def save_agent(agent: "PETS", path: Path) -> None:
    """Write `agent` to the folder `path`, in one step."""
    spec = agent.env.spec
    save_checkpoint(
        path,
        {
            "agent": agent.config.model_dump(mode="json"),
            "model": agent.model_config.model_dump(mode="json"),
            "objective": agent.objective_config.model_dump(mode="json"),
            "seed": agent.seed,
            "env": None if spec is None else {"id": _full_id(spec), "kwargs": dict(spec.kwargs)},
            "learns": _learns(agent),
            "state": agent.state_dict(),
        },
    )


def load_agent(
    agent_class: type[AgentT],
    path: Path,
    env: gym.Env[Any, Any] | str | None,
    **arguments: Any,
) -> AgentT:
    """Return the agent in `path`; see `PETS.load`."""
    saved = load_checkpoint(path)
    if env is None:
        if saved["env"] is None:
            raise CheckpointError(
                f"{path}: the agent's environment has no id to make it by; hand it in as env="
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
    restore(agent, saved, path)
    return agent


def restore(agent: "PETS", saved: Mapping[str, Any], path: Path) -> None:
    """Put what was read from the checkpoint `path` into an agent made with the same settings.

    Raises:
        CheckpointError: If it does not fit.
    """
    if saved["learns"] != _learns(agent):
        raise CheckpointError(
            f"{path}: the agent was saved with {_describe(saved['learns'])}, but is loaded with "
            f"{_describe(_learns(agent))}; hand in the same reward_fn and termination_fn"
        )
    try:
        agent.load_state_dict(saved["state"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the agent: {error}") from error


def _full_id(spec: gym.envs.registration.EnvSpec) -> str:
    """Return an id that also imports what registers the environment, where that is a module."""
    entry = spec.entry_point
    module = entry.partition(":")[0].partition(".")[0] if isinstance(entry, str) else ""
    return spec.id if module in ("", "gymnasium") else f"{module}:{spec.id}"


def _learns(agent: "PETS") -> dict[str, bool]:
    return {"reward": agent.reward_fn is None, "termination": agent.termination_fn is None}


def _describe(learns: Mapping[str, bool]) -> str:
    return " and ".join(f"{'a learned' if v else 'an exact'} {k}" for k, v in learns.items())
