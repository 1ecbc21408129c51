"""MAAC: what it accepts, how it acts and learns, and that it is stored whole."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents import Callback
from mbrl_agents.maac import MAAC
from mbrl_bilevel.cli import main
from mbrl_bilevel.errors import ConfigError, EnvError, MBRLError
from mbrl_bilevel.types import Agent
from tests.agents.small import SMALL_MODEL, SpacesEnv, assert_identical, differ

OBS = np.array([0.8, 0.6, -0.5])
LEARNED = {"reward_fn": None, "termination_fn": None}


def small_maac(env: gym.Env[Any, Any] | str = "Pendulum-v1", **arguments: Any) -> MAAC:
    """An agent that acts by its policy from step 20 on and fits every 15 steps."""
    defaults: dict[str, Any] = {
        "model": SMALL_MODEL,
        "learning_starts": 20,
        "model_train_freq": 15,
        "horizon": 2,
        "sac": {"net_arch": [8], "batch_size": 10},
    }
    return MAAC(env, **{**defaults, **arguments})


class SaveAt(Callback):
    """Saves the agent after one of its steps."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_step(self, agent: Agent) -> bool:
        if agent.num_timesteps == self.step:
            agent.save(self.path)
        return True


# what it accepts


@pytest.mark.parametrize("env", ["CartPole-v1", "MountainCar-v0"])
def test_discrete_actions_are_refused(env: str) -> None:
    with pytest.raises(EnvError, match=r"Discrete\(\d\) is not supported by MAAC.*allowed: Box"):
        small_maac(env)


def detached(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    del action, next_obs
    return obs[..., 0].detach()


def by_numpy(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    del action, next_obs
    return torch.as_tensor(np.cos(obs[..., 0].numpy()))


def alive(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    del obs, action
    return (next_obs[..., 0].abs() < 1).float()


@pytest.mark.parametrize("reward_fn", [detached, alive])
def test_a_reward_without_a_gradient_is_refused(reward_fn: Any) -> None:
    message = r"reward_fn returns a reward without a gradient .* reward_fn=None .* horizon=0"
    with pytest.raises(ConfigError, match=message):
        small_maac(reward_fn=reward_fn)
    small_maac(reward_fn=reward_fn, horizon=0)


def test_a_reward_that_fails_on_inputs_with_a_gradient_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reward_fn fails on inputs that require a gradient: "):
        small_maac(reward_fn=by_numpy)


@pytest.mark.parametrize(
    ("sac", "message"),
    [
        ({"learning_rat": 0.1}, "unknown key 'learning_rat'.*did you mean 'learning_rate'"),
        ({"use_sde": True}, "unknown key 'use_sde'"),
        ({"batch_size": "many"}, "'batch_size': 'many'; allowed: an integer"),
    ],
)
def test_settings_of_sac_are_checked(sac: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_maac(sac=sac)


@pytest.mark.parametrize("settings", [{"horizon": -1}, {"max_grad_norm": 0.0}, {"horizn": 2}])
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        small_maac(**settings)


# how it acts


def test_predictions_have_the_shape_of_what_they_are_asked() -> None:
    agent = small_maac()
    assert agent.predict(OBS)[0].shape == (1,)
    actions, state = agent.predict(np.stack([OBS] * 3), state="kept")
    assert actions.shape == (3, 1)
    assert actions.dtype == np.float32
    assert state == "kept"
    with pytest.raises(ValueError, match=r"observation has shape \(2,\); expected \(3,\)"):
        agent.predict(OBS[:2])


def test_a_deterministic_action_is_the_policys_middle_in_the_environments_units() -> None:
    agent = small_maac()
    before = agent.state_dict()["generator"].clone()
    action, _ = agent.predict(OBS, deterministic=True)
    mean, _, _ = agent.networks.actor.get_action_dist_params(torch.tensor(OBS).float()[None])
    assert action.item() == pytest.approx(2 * math.tanh(mean.item()), rel=1e-5)  # torques up to 2
    assert torch.equal(agent.state_dict()["generator"], before)
    draws = {agent.predict(OBS)[0].item() for _ in range(3)}
    assert len(draws) == 3


def test_actions_of_any_shape() -> None:
    env = SpacesEnv(spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 3.0, (2, 2)))
    agent = small_maac(env).learn(24)
    assert agent.predict(np.zeros(2))[0].shape == (2, 2)


# how it learns


def test_networks_learn_from_the_first_fit_on_and_the_model_does_not_from_them() -> None:
    agent = small_maac()
    first = agent.networks.state_dict()["parameters"]
    agent.learn(19)
    assert_identical(agent.networks.state_dict()["parameters"]["policy"], first["policy"])
    agent.learn(1)
    fitted = {name: value.clone() for name, value in agent.model.state_dict().items()}
    agent.learn(10)
    learned = agent.networks.state_dict()["parameters"]["policy"]
    assert {
        name.split(".")[0] for name in learned if differ(learned[name], first["policy"][name])
    } == {"actor", "critic", "critic_target"}
    assert_identical(dict(agent.model.state_dict()), fitted)


def test_the_learned_ent_coef_moves_and_a_given_one_stays() -> None:
    assert small_maac().learn(25).networks.ent_coef.item() != 1.0
    fixed = small_maac(sac={"net_arch": [8], "batch_size": 10, "ent_coef": 0.3}).learn(25)
    assert fixed.networks.ent_coef.item() == pytest.approx(0.3)


@pytest.mark.parametrize("functions", [{}, LEARNED], ids=["exact", "learned"])
@pytest.mark.parametrize("horizon", [0, 3])
@pytest.mark.parametrize("imagined", [False, True])
def test_it_learns_with_each_setting(
    functions: dict[str, Any], horizon: int, imagined: bool
) -> None:
    agent = small_maac(horizon=horizon, imagined_critic_data=imagined, **functions).learn(36)
    assert agent.num_fits == 2
    assert set(agent.metrics) == {
        "train/actor_gradient_norm",
        "train/actor_loss",
        "train/critic_loss",
        "train/ent_coef",
    }
    assert all(np.isfinite(value) for value in agent.metrics.values())


def test_critics_see_imagined_transitions_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def record(critic: Any, batch: Any, target: Tensor) -> Tensor:
        sizes.append(len(batch.rewards))
        assert len(target) == len(batch.rewards)
        return sum(q.mean() for q in critic(batch.observations, batch.actions))  # type: ignore

    monkeypatch.setattr("mbrl_agents.maac.agent.critic_loss", record)
    small_maac().learn(20)
    small_maac(imagined_critic_data=True).learn(20)
    assert sizes == [10, 30]


def test_long_gradients_are_shortened() -> None:
    agent = small_maac(max_grad_norm=1e-3).learn(21)
    gradients = [p.grad for p in agent.networks.actor.parameters() if p.grad is not None]
    assert torch.cat([g.flatten() for g in gradients]).norm().item() == pytest.approx(
        1e-3, rel=1e-3
    )


def test_a_gradient_that_is_not_finite_stops_with_a_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = small_maac().learn(20)
    monkeypatch.setattr(
        agent, "dynamics", lambda o, a, n: (o * a * torch.inf, a[:, 0], n[:, 0] > 9)
    )
    with pytest.raises(
        MBRLError, match=r"gradient of the actor is not finite: .* lower agent.horizon"
    ):
        agent.learn(1)


# storage


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        ({"objective": "bilevel"}, 27),
        ({"objective": "mse", "imagined_critic_data": True, **LEARNED}, 10),
        ({"objective": "mse", "imagined_critic_data": True, **LEARNED}, 42),
        ({"objective": "nll", "horizon": 0, "sac": {"ent_coef": 0.1, "net_arch": [8]}}, 27),
    ],
    ids=["bilevel", "before the first fit", "learned functions", "fixed entropy"],
)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(
    tmp_path: Path, arguments: dict[str, Any], step: int
) -> None:
    path = tmp_path / "agent"
    uninterrupted = small_maac(**arguments).learn(45, SaveAt(step, path))
    functions = {key: arguments[key] for key in LEARNED if key in arguments}
    resumed = MAAC.load(path, **functions)
    assert resumed.num_timesteps == step
    resumed.learn(45 - step)
    assert_identical(resumed.state_dict(), uninterrupted.state_dict())
    used = small_maac(**arguments).learn(33)
    used.restore(path)
    used.learn(45 - step)
    assert_identical(used.state_dict(), uninterrupted.state_dict())
    expected = uninterrupted.predict(OBS, deterministic=True)[0]
    assert_identical(resumed.predict(OBS, deterministic=True)[0], expected)


def test_the_same_seed_gives_the_same_agent_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = small_maac(seed=4).learn(25).state_dict()
    torch.manual_seed(2)
    assert_identical(small_maac(seed=4).learn(25).state_dict(), first)
    assert differ(small_maac(seed=5).learn(25).state_dict()["networks"], first["networks"])


# the command line


@pytest.mark.parametrize("objective", ["mse", "nll", "beta_nll", "pg", "bilevel"])
def test_it_trains_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    module = importlib.import_module("mbrl_bilevel.experiments.train")
    monkeypatch.setattr(module, "write_plots", lambda *_: None)  # most of a tiny run's time
    run = tmp_path / "run"
    overrides = [
        f"objective={objective}",
        "env.kwargs.max_episode_steps=20",
        "agent.learning_starts=20",
        "agent.model_train_freq=20",
        "agent.horizon=2",
        "agent.sac.batch_size=8",
        "model.ensemble_size=2",
        "model.hidden_sizes=[8]",
        "model.num_updates=20",
        "checkpoint.every=20",
        "total_timesteps=40",
        "eval.episodes=1",
        "eval.video=false",
    ]
    assert main(["train", "maac_pendulum", *overrides, "--run-dir", str(run)]) == 0
    assert json.loads((run / "summary.json").read_text())["agent"] == "maac"
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("train/actor_gradient_norm" in row for row in logged)
