"""Models trained by Stable-Baselines3's PPO, as policies; on one core, in less than a minute."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

pytestmark = pytest.mark.learning


def test_ppo_finds_the_distribution_by_the_optimal_reward() -> None:
    """Of the entropy, which no policy can beat, it comes within 0.1 nats."""
    toy: Any = gym.make("mbrl_envs:GaussianToy-v0").unwrapped
    agent = PPO(
        "MlpPolicy",
        make_vec_env("mbrl_envs:GaussianToy-v0", n_envs=64),
        ent_coef=1.0,
        normalize_advantage=False,
        n_steps=16,
        batch_size=256,
        learning_rate=lambda progress: 5e-3 * progress,
        clip_range=0.4,
        max_grad_norm=50.0,
        gamma=0.0,
        policy_kwargs={"log_std_init": 1.0},
        seed=0,
    )
    agent.learn(24_576)
    x, y = toy.problem.sample(np.random.default_rng(1000), 50_000)
    with torch.no_grad():
        density = agent.policy.get_distribution(torch.as_tensor(x))
        nll = float(-density.log_prob(torch.as_tensor(y)).mean())
    assert toy.entropy == pytest.approx(math.log(2 * math.pi * math.e * 1.25**2))
    # Below the entropy there is nothing, but for the noise of the sample.
    assert toy.entropy - 0.02 <= nll <= toy.entropy + 0.1


def test_ppo_classifies_wine() -> None:
    test: Any = gym.make("mbrl_envs:TabularClassification-v0", split="test").unwrapped
    agent = PPO(
        "MlpPolicy",
        make_vec_env("mbrl_envs:TabularClassification-v0", n_envs=64),
        n_steps=8,
        batch_size=128,
        learning_rate=3e-3,
        n_epochs=5,
        gamma=0.0,
        seed=0,
    )
    agent.learn(8_192)
    predicted, _ = agent.predict(test.features, deterministic=True)
    assert np.mean(predicted == test.labels) >= 0.95
