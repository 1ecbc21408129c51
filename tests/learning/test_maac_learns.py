"""MAAC trained from nothing until it is good; on one core, in less than a minute."""

import gymnasium as gym
import numpy as np
import pytest

from mbrl_agents import MAAC
from mbrl_bilevel.evaluation import evaluate_episodes


@pytest.mark.learning
def test_pendulum_is_swung_up_after_1500_steps() -> None:
    """Random actions get about -1200, this agent -167 to -232 after 1,400 to 1,600 steps."""
    agent = MAAC(
        "Pendulum-v1",
        seed=0,
        objective={"name": "bilevel", "reward": "diagonal"},
        model={"hidden_sizes": [64, 64, 64], "weight_decay": 1.0},
        horizon=5,
        imagined_critic_data=True,
        sac={
            "net_arch": [64, 64],
            "activation_fn": "silu",
            "batch_size": 64,
            "learning_rate": 1e-3,
            "gamma": 0.97,
            "tau": 0.02,
            "ent_coef": "auto_0.2",
        },
    )
    agent.learn(1_500)
    episodes = evaluate_episodes(
        agent, lambda _: gym.make("Pendulum-v1"), 10, seed=1000, max_parallel=10
    )
    assert np.mean([episode.total_reward for episode in episodes]) >= -400
