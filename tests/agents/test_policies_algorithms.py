"""Algorithms of Stable-Baselines3 by name: what fits is made, anything else is explained."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3

from mbrl_agents.policies import SpacesOnly, is_off_policy, make_algorithm
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.runs import capture_rng_state
from tests.agents.small import assert_identical

BOX = spaces.Box(-2.0, 2.0, (1,), np.float32)
DISCRETE = spaces.Discrete(3)


def make(name: str, action_space: spaces.Space[Any] = BOX, /, **settings: Any) -> Any:
    env = SpacesOnly(spaces.Box(-np.inf, np.inf, (3,), np.float32), action_space)
    return make_algorithm(name, env, settings, 0, "cpu")


def test_settings_reach_the_algorithm_and_its_networks() -> None:
    sac = make("sac", net_arch=[5, 6], activation_fn="tanh", gamma=0.9, ent_coef="auto_0.1")
    assert isinstance(sac, SAC)
    assert sac.gamma == 0.9
    layers = [module for module in sac.actor.latent_pi if isinstance(module, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [5, 6]
    assert any(isinstance(module, torch.nn.Tanh) for module in sac.actor.latent_pi)
    assert torch.exp(sac.log_ent_coef.detach()).item() == pytest.approx(0.1)
    ppo = make("ppo", DISCRETE, policy_kwargs={"net_arch": {"pi": [4], "vf": [7]}})
    assert isinstance(ppo, PPO)
    assert ppo.policy.mlp_extractor.latent_dim_vf == 7


def test_off_policy_optimisers_are_fused_and_keep_their_other_settings() -> None:
    (group,) = make(
        "sac", policy_kwargs={"optimizer_kwargs": {"eps": 1e-3}}
    ).critic.optimizer.param_groups
    assert group["fused"]
    assert group["eps"] == 1e-3
    (group,) = make(
        "sac", policy_kwargs={"optimizer_kwargs": {"fused": False}}
    ).actor.optimizer.param_groups
    assert not group["fused"]
    assert make("ppo").policy.optimizer.defaults["eps"] == 1e-5  # Stable-Baselines3's default


def test_action_noise_is_a_standard_deviation() -> None:
    td3 = make("td3", spaces.Box(-2.0, 2.0, (4,), np.float32), action_noise=0.25)
    assert isinstance(td3, TD3)
    np.random.seed(0)  # noqa: NPY002 - Stable-Baselines3 draws from the global generator
    drawn = np.stack([td3.action_noise() for _ in range(500)])
    assert drawn.shape == (500, 4)
    assert drawn.std() == pytest.approx(0.25, rel=0.1)


def test_a_train_freq_may_be_a_list() -> None:
    assert make("dqn", DISCRETE, train_freq=[2, "episode"]).train_freq.frequency == 2


def test_weights_depend_on_the_seed_alone_and_nothing_global_moves() -> None:
    before = capture_rng_state()
    first = make("sac").policy.state_dict()
    torch.randn(3)
    second = make("sac").policy.state_dict()
    assert_identical(dict(first), dict(second))
    torch.set_rng_state(before["torch"])
    make("sac")
    assert_identical(capture_rng_state(), before)


def test_the_environment_keeps_its_own_action_space() -> None:
    space = spaces.Box(-2.0, 2.0, (1,), np.float32, seed=3)
    expected = spaces.Box(-2.0, 2.0, (1,), np.float32, seed=3).sample()
    make("sac", space).action_space.sample()
    assert space.sample() == expected


def test_on_and_off_policy_are_told_apart() -> None:
    assert is_off_policy(make("dqn", DISCRETE))
    assert isinstance(make("dqn", DISCRETE), DQN)
    assert not is_off_policy(make("a2c", DISCRETE))


@pytest.mark.parametrize(
    ("name", "space", "settings", "message"),
    [
        ("sacc", BOX, {}, r"'algorithm': 'sacc'; allowed: a2c, crossq, ddpg, dqn, ppo"),
        ("dqn", BOX, {}, r"'dqn' acts in Discrete spaces, .* allowed for it: a2c, .*ppo, sac"),
        ("sac", DISCRETE, {}, r"'sac' acts in Box spaces, .* Discrete\(3\); .*: a2c, dqn, ppo"),
        ("ppo", spaces.Discrete(2, start=1), {}, r"starts at 1; .* allowed: start=0"),
        (
            "sac",
            BOX,
            {"gama": 0.9},
            r"'gama' \(value 0.9\), did you mean 'gamma'\?; allowed in",
        ),
        ("sac", BOX, {"verbose": 1}, r"unknown key 'verbose'"),
        ("sac", BOX, {"policy_kwargs": {"optimizer_class": 1}}, r"sac's policy_kwargs: activation"),
        ("sac", BOX, {"policy_kwargs": 3}, r"'policy_kwargs': 3; allowed: a mapping"),
        ("sac", BOX, {"gamma": "high"}, r"sac's setting 'gamma': 'high'; allowed: a number"),
        ("sac", BOX, {"batch_size": 2.5}, r"'batch_size': 2.5; allowed: an integer"),
        ("sac", BOX, {"use_sde": 1}, r"'use_sde': 1; allowed: true or false"),
        ("sac", BOX, {"ent_coef": [1]}, r"'ent_coef': \[1\]; allowed: a number, or a name like"),
        ("sac", BOX, {"activation_fn": "step"}, r"'activation_fn': 'step'; allowed: elu, gelu"),
        (
            "sac",
            BOX,
            {"ent_coef": "some"},
            r"sac cannot be made with .*'some'.*: could not",
        ),
        ("sac", BOX, {"net_arch": "wide"}, r"sac cannot be made with .*'wide'"),
        ("td3", BOX, {"action_noise": "much"}, r"'action_noise': 'much'; allowed: 0 or more"),
        ("td3", BOX, {"action_noise": -0.1}, r"'action_noise': -0.1; allowed: 0 or more"),
    ],
)
def test_what_does_not_fit_is_explained(
    name: str, space: spaces.Space[Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name, space, **settings)


def test_what_the_caller_decides_cannot_be_set() -> None:
    env = SpacesOnly(spaces.Box(-1.0, 1.0, (3,), np.float32), BOX)
    with pytest.raises(ConfigError, match="unknown key 'buffer_size'"):
        make_algorithm("sac", env, {"buffer_size": 5}, 0, "cpu", fixed={"buffer_size": 1})


@pytest.mark.parametrize(("name", "kind"), [("ppo", "off_policy"), ("sac", "on_policy")])
def test_the_kind_can_be_asked_for(name: str, kind: Any) -> None:
    env = gym.make("Pendulum-v1")
    with pytest.raises(ConfigError, match=f"'{name}' is .*_policy; allowed: ") as raised:
        make_algorithm(name, env, {}, 0, "cpu", kind=kind)
    assert name not in str(raised.value).partition("allowed: ")[2]


def test_sb3_contrib_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("mbrl_agents.policies.algorithms.importlib.import_module", missing)
    with pytest.raises(ConfigError, match=r"'tqc' needs the package sb3-contrib, .*: a2c, ddpg"):
        make("tqc")
