"""What an agent tells of its plans and its model, to users and to evaluations."""

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mbrl_agents import PETS, Callback
from mbrl_bilevel.evaluation import evaluate_episodes
from mbrl_bilevel.types import Agent
from tests.agents.small import assert_identical, small_pets

OBS = np.array([0.8, 0.6, -0.5])
BATCH = np.array([[0.8, 0.6, -0.5], [1.0, 0.0, 2.0], [-1.0, 0.0, 0.1]], np.float32)


def test_one_observation_gives_one_action(trained: PETS) -> None:
    action, state = trained.predict(OBS)
    assert action.shape == (1,)
    assert state.center.shape == (1, 4, 1)


def test_a_batch_of_observations_gives_a_batch_of_actions(trained: PETS) -> None:
    actions, state = trained.predict(BATCH)
    assert actions.shape == (3, 1)
    assert state.center.shape == (3, 4, 1)
    actions, _ = trained.predict(OBS[None])
    assert actions.shape == (1, 1)


@pytest.mark.parametrize("shape", [(), (2,), (4,), (3, 2), (2, 1, 3)])
def test_an_observation_of_another_shape_is_refused(trained: PETS, shape: tuple[int, ...]) -> None:
    message = re.escape(f"observation has shape {shape}; expected (3,) or (B, 3)")
    with pytest.raises(ValueError, match=message):
        trained.predict(np.zeros(shape))


def test_a_deterministic_prediction_repeats_itself_and_moves_no_generator(trained: PETS) -> None:
    before = trained.state_dict()["generator"].clone()
    first, first_state = trained.predict(OBS, deterministic=True)
    again, again_state = trained.predict(OBS, deterministic=True)
    assert np.array_equal(first, again)
    assert_identical(vars(first_state), vars(again_state))
    following = [trained.predict(OBS, first_state, deterministic=True)[0] for _ in range(2)]
    assert np.array_equal(following[0], following[1])
    assert torch.equal(trained.state_dict()["generator"], before)


def test_the_noise_of_deterministic_predictions_changes_from_step_to_step() -> None:
    # Random shooting carries nothing from step to step but the count of them.
    agent = small_pets(planner={"name": "random_shooting", "horizon": 2, "population_size": 8})
    actions, state = [], None
    for _ in range(3):
        action, state = agent.predict(OBS, state, deterministic=True)
        actions.append(action.item())
    assert len(set(actions)) > 1  # two of them may be at the same bound


def test_a_prediction_that_is_not_deterministic_draws_from_the_agents_generator() -> None:
    agent = small_pets().learn(20)
    before = agent.state_dict()["generator"].clone()
    actions = [agent.predict(OBS)[0].item() for _ in range(3)]
    assert len(set(actions)) > 1  # two of them may be at the same bound
    assert not torch.equal(agent.state_dict()["generator"], before)


def test_a_batch_is_predicted_as_its_observations_one_by_one(trained: PETS) -> None:
    batch_state, states = None, [None] * len(BATCH)
    for _ in range(3):
        actions, batch_state = trained.predict(BATCH, batch_state, deterministic=True)
        for b, obs in enumerate(BATCH):
            alone, states[b] = trained.predict(obs, states[b], deterministic=True)  # type: ignore[call-overload]
            np.testing.assert_allclose(alone, actions[b], atol=1e-4)


def test_the_state_makes_the_next_search_go_on(trained: PETS) -> None:
    _, state = trained.predict(OBS, deterministic=True)
    assert state.step == 1
    _, following = trained.predict(OBS, state, deterministic=True)
    assert following.step == 2
    _, from_nothing = trained.predict(OBS, deterministic=True)
    assert not torch.equal(following.center, from_nothing.center)


def test_episode_start_makes_the_state_of_its_rows_new(trained: PETS) -> None:
    _, state = trained.predict(BATCH, deterministic=True)
    fresh, _ = trained.predict(BATCH, deterministic=True)
    all_new, _ = trained.predict(BATCH, state, np.ones(3, bool), deterministic=True)
    assert np.array_equal(all_new, fresh)
    none_new, _ = trained.predict(BATCH, state, np.zeros(3, bool), deterministic=True)
    plain, _ = trained.predict(BATCH, state, deterministic=True)
    assert np.array_equal(none_new, plain)
    some_new, some_state = trained.predict(
        BATCH, state, np.array([False, True, False]), deterministic=True
    )
    assert np.array_equal(some_new[[0, 2]], plain[[0, 2]])
    assert some_state.step == 2
    one, _ = trained.predict(
        OBS, state.select(torch.tensor([0])), np.array(True), deterministic=True
    )
    np.testing.assert_allclose(one, fresh[0], atol=1e-4)


def test_an_agent_that_has_not_learned_yet_predicts_too() -> None:
    action, _ = small_pets().predict(OBS, deterministic=True)
    assert np.isfinite(action).all()


def test_an_evaluation_in_the_middle_of_training_does_not_change_training() -> None:
    class Evaluates(Callback):
        calls = 0

        def on_step(self, agent: Agent) -> bool:
            if agent.num_timesteps % 10 == 0:
                evaluate_episodes(
                    agent, lambda _: gym.make("CartPole-v1", max_episode_steps=5), 3, seed=7
                )
                self.calls += 1
            return True

    evaluates = Evaluates()
    evaluated = small_pets("CartPole-v1").learn(60, evaluates)
    assert evaluates.calls == 6
    assert_identical(evaluated.state_dict(), small_pets("CartPole-v1").learn(60).state_dict())


def test_evaluating_in_parallel_gives_the_same_returns(trained: PETS) -> None:
    def returns(max_parallel: int) -> list[float]:
        episodes = evaluate_episodes(
            trained,
            lambda _: gym.make("Pendulum-v1", max_episode_steps=6),
            3,
            seed=0,
            max_parallel=max_parallel,
        )
        return [episode.total_reward for episode in episodes]

    np.testing.assert_allclose(returns(3), returns(1), rtol=1e-3)


def test_sampled_trajectories_follow_the_actions_and_repeat_themselves(trained: PETS) -> None:
    actions = np.linspace(-2, 2, 6, dtype=np.float32)[:, None]
    trajectories = trained.sample_trajectories(OBS, actions)
    assert trajectories.shape == (3, 7, 3)
    np.testing.assert_allclose(trajectories[:, 0], np.tile(OBS, (3, 1)), rtol=1e-6)
    assert np.array_equal(trained.sample_trajectories(OBS, actions), trajectories)
    assert not np.array_equal(trained.sample_trajectories(OBS, -actions), trajectories)


def test_next_observations_are_predicted_by_each_elite() -> None:
    agent = small_pets(objective="nll").learn(40)
    transitions = agent.buffer.all()
    mean, variance = agent.predict_next_obs(transitions.obs, transitions.actions)
    assert mean.shape == variance.shape == (2, 40, 3)
    assert (variance > 0).all()
    assert not np.array_equal(mean[0], mean[1])
    expected = expected_next_obs(agent, transitions.obs, transitions.actions)
    np.testing.assert_allclose(mean, expected, atol=1e-4)


@torch.no_grad()
def expected_next_obs(
    agent: PETS, obs: NDArray[np.float32], actions: NDArray[Any]
) -> NDArray[np.float32]:
    """Normalise, ask the elites' networks, denormalise, add to the observation."""
    model = agent.model
    inputs = torch.cat([torch.as_tensor(obs), torch.as_tensor(actions) / 2], dim=-1)
    x = model.input_normalizer.normalize(inputs).expand(3, -1, -1)
    delta = model.target_normalizer.denormalize(model.network(x).mean)[model.elite_indices]
    predicted: NDArray[np.float32] = (torch.as_tensor(obs) + delta).numpy()
    return predicted
