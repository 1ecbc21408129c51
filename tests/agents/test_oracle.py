"""Planning on the true simulator."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mbrl_agents import Callback, Oracle
from mbrl_agents.simulator import CHECKED_STEPS
from mbrl_bilevel.errors import CheckpointError, ConfigError, EnvError
from mbrl_bilevel.evaluation import evaluate_episodes
from mbrl_bilevel.types import Agent
from tests.agents.small import SMALL_PLANNER, assert_identical

CARTPOLE = "mbrl_envs:ContinuousCartPole-v0"


def small_oracle(env: gym.Env[Any, Any] | str = "Pendulum-v1", **arguments: Any) -> Oracle:
    return Oracle(env, **{"planner": SMALL_PLANNER, **arguments})


def test_the_planner_maximises_what_the_environment_pays() -> None:
    """Every candidate's return is the sum of the rewards of a plain loop, terminations included."""
    agent = small_oracle(CARTPOLE, planner={"name": "random_shooting", "horizon": 60})
    agent.env.reset(seed=2)
    for _ in range(3):
        agent.env.step(np.ones(1, np.float32))
    judged: list[torch.Tensor] = []

    def plan(evaluate: Any, state: Any, generator: Any) -> Any:
        plans = torch.rand(1, 4, 60, 1, generator=generator) * 2 - 1
        judged.extend([plans, evaluate(plans)])
        return plans[:, 0], state

    agent.planner.plan = plan  # type: ignore[method-assign]
    agent.predict(agent.env.last_obs, deterministic=True)
    plans, returns = judged
    assert returns.shape == (1, 4)
    for sequence, total in zip(plans[0].numpy(), returns[0], strict=True):
        env = gym.make(CARTPOLE)
        env.reset(seed=2)
        for _ in range(3):
            env.step(np.ones(1, np.float32))
        paid, ended = 0.0, False
        for action in sequence:
            if not ended:
                _, reward, ended, _, _ = env.step(action)
                paid += float(reward)
        assert paid == total
    assert returns.min() < 60  # some fall


@pytest.mark.parametrize("planner", ["icem", "cem", "mppi", "random_shooting"])
@pytest.mark.parametrize("env_id", ["InvertedPendulum-v5", "CartPole-v1"])
def test_every_planner_acts_in_box_and_discrete_spaces(env_id: str, planner: str) -> None:
    agent = small_oracle(env_id, planner=planner_settings(planner)).learn(5)
    assert agent.num_timesteps == 5
    obs = agent.env.last_obs
    action, state = agent.predict(obs, deterministic=True)
    assert agent.env.action_space.contains(action)
    again, _ = agent.predict(obs, deterministic=True)
    assert np.array_equal(action, again)
    next_obs, *_ = agent.env.step(action)
    agent.predict(next_obs, state)


def planner_settings(name: str) -> dict[str, Any]:
    common = {"name": name, "horizon": 3, "population_size": 6}
    return common if name in ("mppi", "random_shooting") else {**common, "num_elites": 2}


def test_it_stays_up_where_random_actions_fall() -> None:
    """With a horizon of half a second; random actions last for about five steps."""
    agent = small_oracle("InvertedPendulum-v5", planner={**SMALL_PLANNER, "horizon": 12})
    episodes = evaluate_episodes(
        agent, lambda _: gym.make("InvertedPendulum-v5", max_episode_steps=30), 1, seed=0
    )
    assert [episode.length for episode in episodes] == [30]


def test_episodes_at_once_are_those_one_by_one() -> None:
    """Of different lengths: each environment keeps its own planner's state."""

    def observed(max_parallel: int) -> list[NDArray[Any]]:
        agent = small_oracle(CARTPOLE, planner={**SMALL_PLANNER, "horizon": 2})
        episodes = evaluate_episodes(
            agent, lambda _: gym.make(CARTPOLE), 3, seed=5, max_parallel=max_parallel
        )
        return [episode.obs for episode in episodes]

    together, alone = observed(3), observed(1)
    assert len({len(obs) for obs in alone}) > 1
    for first, second in zip(together, alone, strict=True):
        assert np.array_equal(first, second)


class SaveAt(Callback):
    """Saves the agent after one of its steps."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_step(self, agent: Agent) -> bool:
        if agent.num_timesteps == self.step:
            agent.save(self.path)
        return True


@pytest.mark.parametrize("env_id", ["Reacher-v5", CARTPOLE])
def test_a_loaded_agent_goes_on_as_if_it_had_never_stopped(tmp_path: Path, env_id: str) -> None:
    whole = small_oracle(env_id).learn(12, SaveAt(7, tmp_path / "agent"))
    loaded = Oracle.load(tmp_path / "agent").learn(5)
    assert_identical(loaded.state_dict(), whole.state_dict())
    used = small_oracle(env_id).learn(3)
    used.restore(tmp_path / "agent")
    assert_identical(used.learn(5).state_dict(), whole.state_dict())
    assert_identical(
        used.predict(used.env.last_obs, deterministic=True)[0],
        whole.predict(whole.env.last_obs, deterministic=True)[0],
    )


def test_an_agent_with_other_settings_is_not_restored(tmp_path: Path) -> None:
    small_oracle().save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"was saved with agent="):
        small_oracle(planner="mppi").restore(tmp_path / "agent")


def test_an_observation_from_elsewhere_needs_its_environment() -> None:
    agent = small_oracle()
    env = gym.make("Pendulum-v1")
    obs, _ = env.reset(seed=1)
    for before in (lambda: None, lambda: agent.env.reset(seed=2)):
        before()
        with pytest.raises(EnvError, match=r"agent\.env did not return this observation last"):
            agent.predict(obs)
    action, state = agent.predict(obs, agent.initial_state([env]))
    with pytest.raises(ValueError, match="2 observations of 1 environments"):
        agent.predict(np.stack([obs, obs]), state)
    assert env.action_space.contains(action)


class FadingEnv(gym.ActionWrapper[Any, Any, Any]):
    """Weakens with the steps of all of its copies, once they have taken some."""

    num_steps = 0

    def action(self, action: Any) -> Any:
        FadingEnv.num_steps += 1
        return action * 0.99 ** max(0, FadingEnv.num_steps - 2 * CHECKED_STEPS)


def test_a_simulation_that_goes_wrong_is_told_of() -> None:
    agent = small_oracle(FadingEnv(gym.make("Pendulum-v1")))
    with pytest.raises(EnvError, match=r"simulation of Pendulum-v1 does not repeat it"):
        agent.learn(1)


def test_gradients_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"planner.*refinement has to be null"):
        small_oracle(planner={**SMALL_PLANNER, "refinement": {}})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_an_impossible_seed_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=f"'seed': {seed}"):
        small_oracle(seed=seed)
