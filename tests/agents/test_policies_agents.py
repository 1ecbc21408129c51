"""MBPO and Dyna with every objective: from the command line, and back from a checkpoint."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbrl_agents import MBPO, Callback, Dyna, ModelBasedAgent
from mbrl_bilevel import build
from mbrl_bilevel.cli import main
from mbrl_bilevel.config import OBJECTIVE_CONFIGS, find_config, list_configs, load_data
from mbrl_bilevel.runs import latest_checkpoint, load_checkpoint
from mbrl_bilevel.types import Agent
from tests.agents.small import assert_identical, differ
from tests.agents.test_dyna import small_dyna
from tests.agents.test_mbpo import small_mbpo

TINY = (
    "eval.video=false",
    "eval.episodes=1",
    "env.kwargs.max_episode_steps=15",
    "agent.learning_starts=20",
    "agent.model_train_freq=15",
    "model.ensemble_size=2",
    "model.hidden_sizes=[8]",
    "model.num_updates=10",
    "model.eval_every=5",
    "checkpoint.every=1000",
)
TINY_AGENT = {
    "mbpo": (
        "agent.rollout_freq=5",
        "agent.num_rollouts=6",
        "agent.gradient_steps=1",
        "agent.sac.net_arch=[8]",
    ),
    "dyna": (
        "agent.algorithm={name: sac, net_arch: [8], learning_starts: 8, batch_size: 16}",
        "agent.real_data_ratio=0.2",
        "agent.num_envs=4",
        "agent.imagined_steps=32",
    ),
}


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: plots take most of a tiny run's time."""
    module = importlib.import_module("mbrl_bilevel.experiments.train")
    monkeypatch.setattr(module, "write_plots", lambda *_: None)


@pytest.mark.parametrize("objective", list(OBJECTIVE_CONFIGS))
@pytest.mark.parametrize("agent", ["mbpo", "dyna"])
def test_a_run_in_two_parts_equals_the_uninterrupted_one(
    tmp_path: Path, agent: str, objective: str
) -> None:
    def train(run: str, *words: str) -> dict[Any, Any]:
        overrides = (*TINY, *TINY_AGENT[agent], f"objective={objective}")
        command = ["train", f"{agent}_pendulum", *overrides, *words]
        assert main([*command, "--run-dir", str(tmp_path / run)]) == 0
        return final_state(tmp_path / run)

    whole = train("whole", "total_timesteps=44")
    half = train("parts", "total_timesteps=22")
    resumed = ["train", "--resume", "--run-dir", str(tmp_path / "parts"), "total_timesteps=44"]
    assert main(resumed) == 0
    assert_identical(final_state(tmp_path / "parts"), whole)
    assert differ(half["state"]["algorithm"], whole["state"]["algorithm"])


def final_state(run: Path) -> dict[Any, Any]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_checkpoint(checkpoint)


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_step(self, agent: Agent) -> bool:
        if agent.num_timesteps == self.step:
            agent.save(self.path)
        return True


def make(name: str) -> ModelBasedAgent:
    return {
        "mbpo": lambda: small_mbpo(
            rollout_length={"initial": 3, "final": 1, "begin_step": 20, "end_step": 40}
        ),
        "mbpo with gSDE": lambda: small_mbpo(
            sac={"net_arch": [8], "batch_size": 16, "use_sde": True}
        ),
        "dyna with ppo": lambda: small_dyna(algorithm="ppo"),
        "dyna with td3": lambda: small_dyna(algorithm="td3", real_data_ratio=0.5),
        "dyna with dqn": lambda: small_dyna("CartPole-v1", "dqn", real_data_ratio=0.5),
    }[name]()


@pytest.mark.parametrize(
    "name", ["mbpo", "mbpo with gSDE", "dyna with ppo", "dyna with td3", "dyna with dqn"]
)
def test_a_loaded_agent_goes_on_as_if_it_had_never_stopped(tmp_path: Path, name: str) -> None:
    """From before the first fit, from just after it, and from between two."""
    for step in (10, 20, 37):
        path = tmp_path / str(step)
        whole = make(name).learn(45, SaveAt(step, path))
        agent_class: type[ModelBasedAgent] = MBPO if name.startswith("mbpo") else Dyna
        loaded = agent_class.load(path)
        assert loaded.num_timesteps == step
        loaded.learn(45 - step)
        assert_identical(loaded.state_dict(), whole.state_dict())
        used = make(name).learn(30)
        used.restore(path)
        used.learn(45 - step)
        assert_identical(used.state_dict(), whole.state_dict())
        obs = np.stack([whole.interaction.obs] * 2)
        assert_identical(used.predict(obs)[0], whole.predict(obs)[0])


@pytest.mark.parametrize(
    "name", [name for name in list_configs() if name.startswith(("mbpo_", "dyna_"))]
)
def test_every_shipped_configuration_makes_its_agent(name: str) -> None:
    config = build.train_config(load_data(find_config(name)))
    env = build.build_env(config)
    agent = build.build_agent(config, env)
    obs, _ = env.reset(seed=0)
    action, _ = agent.predict(obs, deterministic=True)
    assert env.action_space.contains(action)
