"""What a dynamics model learns from transitions."""

import numpy as np
import pytest
import torch

from mbrl_bilevel.dynamics import DynamicsModel
from tests.dynamics.cases import BOX, DISCRETE, linear_system, make_model, settings


@pytest.mark.parametrize("learns_reward", [False, True])
def test_inputs_and_targets_of_transitions(learns_reward: bool) -> None:
    data = linear_system(20)
    inputs, targets = make_model(learns_reward=learns_reward).tensors(data)
    expected = np.concatenate([data.obs, data.actions], axis=1)
    np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-6)
    delta = data.next_obs - data.obs
    np.testing.assert_array_equal(targets[:, :2].numpy(), delta)
    assert targets.shape == (20, DynamicsModel.target_size(2, learns_reward))
    if learns_reward:
        np.testing.assert_array_equal(targets[:, 2].numpy(), data.rewards)


def test_discrete_actions_enter_as_one_hot() -> None:
    data = linear_system(30, space=DISCRETE)
    inputs, _ = make_model(space=DISCRETE).tensors(data)
    assert set(data.actions.tolist()) == {1, 2, 3}
    np.testing.assert_array_equal(inputs[:, 2:].numpy(), np.eye(3)[data.actions - 1])


@pytest.mark.parametrize(("elites", "expected"), [(None, [0, 1, 2]), (2, [0, 1])])
def test_as_many_elites_as_asked_for(elites: int | None, expected: list[int]) -> None:
    model = make_model(config=settings(num_elite_members=elites))
    assert model.elite_indices.tolist() == expected


def test_a_termination_classifier_only_if_asked_for() -> None:
    assert make_model().termination is None
    assert make_model(learns_termination=True).termination is not None


def test_initial_weights_come_from_the_generator() -> None:
    first, again = make_model(seed=0).state_dict(), make_model(seed=0).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["network.weights.0"], make_model(seed=1).network.weights[0])


def test_the_whole_model_is_in_its_state() -> None:
    """Normalisers, elites, the reward of the objective, the classifier: all that predicts."""
    model = make_model("bilevel", learns_reward=True, learns_termination=True, space=BOX)
    assert {
        "elite_indices",
        "input_normalizer.mean",
        "input_normalizer.std",
        "target_normalizer.mean",
        "target_normalizer.std",
        "objective.reward.log_u",
        "network.weights.0",
        "network.biases.0",
        "termination.has_terminations",
        "termination.normalizer.mean",
    } <= set(model.state_dict())
    assert "objective.residual_log_var" in make_model("mse").state_dict()
