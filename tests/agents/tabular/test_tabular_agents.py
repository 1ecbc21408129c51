"""Tabular agents: what they learn, on disk and off it."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from mbrl_agents import PSRL, Callback, DynaQ, QLearning, RMax, TabularAgent, TabularVI
from mbrl_bilevel.errors import CheckpointError, ConfigError, EnvError
from mbrl_bilevel.tabular import policy_iteration
from mbrl_bilevel.types import Agent, ModelAgent, ReportingAgent
from mbrl_envs.tasks import read_tables
from tests.agents.small import SpacesEnv, assert_identical, differ

LAKE = "FrozenLake-v1"
EXPLORING: dict[str, Any] = {"exploration": {"start": 1.0, "end": 0.2, "steps": 100}}
CASES: dict[str, tuple[type[TabularAgent], dict[str, Any]]] = {
    "vi": (TabularVI, {**EXPLORING, "model_train_freq": 30}),
    "dyna": (DynaQ, {**EXPLORING, "model_train_freq": 30, "planning_updates": 5}),
    "dyna sample": (DynaQ, {**EXPLORING, "updates": "sample", "objective": "dirichlet"}),
    "psrl": (PSRL, {}),
    "rmax": (RMax, {"known_after": 3, "objective": "nll"}),
    "q": (QLearning, {**EXPLORING, "lr_decay": 0.5}),
}
EACH_AGENT = pytest.mark.parametrize("case", CASES)


def make(case: str, env: Any = LAKE, **arguments: Any) -> TabularAgent:
    agent_class, settings = CASES[case]
    return agent_class(env, **{**settings, **arguments})


class SaveAt(Callback):
    """Saves the agent after one of its steps."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path
        self.in_episode = False

    def on_step(self, agent: Agent) -> bool:
        if agent.num_timesteps == self.step:
            assert isinstance(agent, TabularAgent)
            self.in_episode = not agent.interaction.is_new_episode
            agent.save(self.path)
        return True


@EACH_AGENT
def test_going_on_from_a_checkpoint_equals_never_having_stopped(case: str, tmp_path: Path) -> None:
    arguments = {"env": "CliffWalkingSlippery-v1", "seed": 3}  # whose episodes are long
    save_at = SaveAt(71, tmp_path / "agent")
    uninterrupted = make(case, **arguments).learn(150, save_at)
    assert save_at.in_episode
    resumed = type(uninterrupted).load(tmp_path / "agent")
    assert resumed.num_timesteps == 71
    assert_identical(resumed.learn(79).state_dict(), uninterrupted.state_dict())
    restored = make(case, **arguments)
    restored.learn(20).restore(tmp_path / "agent")
    assert_identical(restored.learn(79).state_dict(), uninterrupted.state_dict())
    np.testing.assert_array_equal(restored.q_values(), uninterrupted.q_values())


@EACH_AGENT
def test_one_seed_gives_one_agent(case: str) -> None:
    first, same, other = (make(case, seed=seed).learn(120).state_dict() for seed in (1, 1, 2))
    assert_identical(first, same)
    assert differ(first, other)


@EACH_AGENT
def test_predictions_are_greedy(case: str) -> None:
    agent = make(case).learn(60)
    best = agent.q_values().argmax(axis=1)
    actions, state = agent.predict(np.arange(16), deterministic=True)
    assert state is None
    np.testing.assert_array_equal(actions, best)
    action, _ = agent.predict(4, deterministic=True)
    assert action.shape == ()
    assert int(action) == best[4]
    drawn, _ = agent.predict(np.arange(16))
    rows = np.arange(16)
    np.testing.assert_array_equal(agent.q_values()[rows, drawn], agent.q_values().max(axis=1))
    with pytest.raises(ValueError, match=r"observation 16 is not .*Discrete\(16\)"):
        agent.predict(16)


@EACH_AGENT
def test_what_agents_tell_of_themselves(case: str) -> None:
    agent = make(case).learn(60)
    assert isinstance(agent, ReportingAgent)
    assert not isinstance(agent, ModelAgent)
    metrics = agent.evaluation_metrics()
    assert 0 <= metrics["eval/exact_return"] <= metrics["eval/optimal_return"]
    assert metrics["eval/exact_value"] <= metrics["eval/optimal_value"] + 1e-12
    assert metrics["eval/optimal_return"] == pytest.approx(0.7442, abs=1e-4)
    figure = agent.figures()["values"]
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["learned", "optimal"]


class Corridor(gym.Env[Any, Any]):
    """Five cells numbered from ten; action 3 leads on, 2 back; the last pays one and ends."""

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(5, start=10)
        self.action_space = spaces.Discrete(2, start=2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.at = 10
        return self.at, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.at = min(max(self.at + (1 if action == 3 else -1), 10), 14)
        ended = self.at == 14
        return self.at, float(ended), ended, False, {}


@EACH_AGENT
def test_spaces_may_start_anywhere_and_tables_may_be_unknown(case: str) -> None:
    arguments: dict[str, Any] = {"redraw_after": 20} if case == "psrl" else {}
    agent = make(case, Corridor(), discount=0.9, **arguments).learn(800)
    actions, _ = agent.predict(np.arange(10, 14), deterministic=True)
    assert actions.tolist() == [3, 3, 3, 3]
    assert agent.evaluation_metrics() == {}
    if case != "q":  # whose rate falls
        assert agent.q_values()[3, 1] == pytest.approx(1.0, abs=0.05)
    assert len(agent.figures()["values"].axes) == 2  # the learned values and their scale


@pytest.mark.parametrize("case", ["vi", "dyna", "rmax"])
def test_values_of_a_known_process_are_the_exact_ones(case: str) -> None:
    """Deterministic, so that everything is known once it was seen."""
    env = gym.make("mbrl_envs:GridWorld-v0", layout=["S..", "#.H", "..G"], slip=0.0)
    agent = make(case, env, objective="nll", discount=0.9).learn(1500)
    exact = policy_iteration(read_tables(env), 0.9)
    reachable = [0, 1, 2, 3, 5, 6]  # not the hole and the goal
    np.testing.assert_allclose(
        agent.q_values()[reachable].max(axis=1), exact.values[reachable], atol=1e-6
    )


def test_posterior_draws_have_the_posteriors_mean() -> None:
    agent = PSRL(LAKE, seed=0, objective={"name": "dirichlet", "prior_count": 3.0}).learn(200)
    draws = np.mean([agent.draw_mdp().transition_table for _ in range(1000)], axis=0)
    counts, visits = agent.seen.counts, agent.seen.visits[..., None]
    np.testing.assert_allclose(draws, (counts + 3 / 16) / (visits + 3), atol=0.06)


def test_a_posterior_draw_with_a_tiny_prior_is_a_distribution() -> None:
    draw = PSRL("Taxi-v4", seed=0, objective={"name": "dirichlet", "prior_count": 1e-6}).draw_mdp()
    np.testing.assert_allclose(draw.transition_table.sum(axis=-1), 1.0)


def test_rewards_of_what_was_never_tried_are_the_priors() -> None:
    agent = PSRL(LAKE, seed=0, reward_prior_mean=5.0, reward_prior_count=0.5).learn(50)
    rewards = agent.draw_mdp().reward_table
    never = agent.seen.visits == 0
    assert (rewards[never] == 5.0).all()
    tried, once = np.argwhere(agent.seen.visits > 0)[0], agent.seen.counts
    unseen = once[tuple(tried)] == 0
    visits = agent.seen.visits[tuple(tried)]
    assert rewards[tuple(tried)][unseen] == pytest.approx(2.5 / (visits + 0.5))


def test_rmax_is_optimistic_about_what_it_has_not_tried_often() -> None:
    agent = RMax("mbrl_envs:Chain-v0", seed=0, known_after=4, max_reward=10.0, discount=0.9)
    agent.learn(30)
    optimistic = agent.state_dict()["optimistic"]
    unknown = agent.seen.visits < 4
    assert unknown.any()
    assert not unknown.all()
    np.testing.assert_allclose(optimistic[unknown], 10 / (1 - 0.9))
    assert (optimistic[~unknown] < 100).all()


@pytest.mark.parametrize(
    ("case", "arguments", "message"),
    [
        ("q", {"objective": "nll"}, "invalid value for 'objective': 'nll'; .* 'none'"),
        ("psrl", {"objective": "bilevel"}, "'bilevel'; .* 'dirichlet'"),
        ("vi", {"objective": "mse"}, "'mse'; allowed: nll, dirichlet, pg, bilevel"),
        ("vi", {"objective": {"name": "bilevel", "reward": "full"}}, "'objective.reward': 'full'"),
        ("dyna", {"model": {"hidden_sizes": [8]}}, "unknown key 'model.hidden_sizes'"),
        ("dyna", {"discount": 1.0}, "invalid value for 'discount': 1.0"),
        ("psrl", {"lr": 0.1}, "unknown key 'lr'"),
        ("vi", {"seed": -1}, "invalid value for 'seed': -1"),
    ],
)
def test_impossible_settings(case: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(case, **arguments)


@EACH_AGENT
def test_other_spaces_are_refused(case: str) -> None:
    box, discrete = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(3)
    with pytest.raises(EnvError, match=r"observation space Box.* tabular agents; .* Discrete"):
        make(case, SpacesEnv(box, discrete))
    with pytest.raises(EnvError, match=r"action space Box.* tabular agents; .* Discrete"):
        make(case, SpacesEnv(discrete, box))


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    make("vi").learn(20).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"it has 16 states and 4 actions, .* 48 and 4"):
        TabularVI.load(tmp_path / "agent", env="CliffWalkingSlippery-v1")
    with pytest.raises(CheckpointError, match="saved with objective="):
        make("vi", objective="nll").restore(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="saved with seed=0, but this one has seed=1"):
        make("vi", seed=1).restore(tmp_path / "agent")
