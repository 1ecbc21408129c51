"""Noise on planned actions while learning, and only then."""

import numpy as np
import torch

from tests.agents.small import small_pets


def test_noise_of_box_actions_has_its_scale_and_stays_in_bounds() -> None:
    agent = small_pets(exploration_noise=0.2)
    planned = torch.zeros(1, 1)
    explored = torch.cat([agent._explore(planned) for _ in range(2000)])
    assert abs(explored.std().item() - 0.2) < 0.02
    assert agent._explore(torch.ones(1, 1)).item() <= 1.0


def test_share_of_random_discrete_actions() -> None:
    agent = small_pets("CartPole-v1", exploration_noise=0.5)
    planned = torch.tensor([[1.0, 0.0]])
    kept = sum(torch.equal(agent._explore(planned), planned) for _ in range(1000))
    assert 690 < kept < 810  # half are planned, and half of the random ones are the same


def test_without_noise_the_generator_stands_still() -> None:
    agent = small_pets()
    before = agent.generator.get_state()
    planned = torch.full((1, 1), 0.3)
    assert torch.equal(agent._explore(planned), planned)
    assert torch.equal(agent.generator.get_state(), before)


def test_learning_explores_and_prediction_does_not() -> None:
    calm, noisy = small_pets(), small_pets(exploration_noise=0.5)
    calm.learn(21)
    noisy.learn(21)
    first = calm.buffer.all().actions[:20], noisy.buffer.all().actions[:20]
    np.testing.assert_array_equal(*first)
    assert calm.buffer.all().actions[20] != noisy.buffer.all().actions[20]
    obs = calm.buffer.all().obs[20]
    noisy.load_state_dict(calm.state_dict())
    np.testing.assert_array_equal(
        calm.predict(obs, deterministic=True)[0], noisy.predict(obs, deterministic=True)[0]
    )
