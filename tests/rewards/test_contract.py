"""What every reward promises."""

import pytest
import torch

from mbrl_bilevel.rewards import NeuralReward, OneHotReward, Reward, StateDependentReward
from tests.rewards.cases import D_X, REWARDS, D, normal, randomise

EACH = pytest.mark.parametrize("name", REWARDS)


@EACH
def test_it_is_zero_for_a_perfect_prediction_and_negative_otherwise(name: str) -> None:
    y, x = normal(0, 50, D), normal(1, 50, D_X)
    for seed in range(5):
        reward = randomise(REWARDS[name](), seed)
        assert torch.equal(reward(y, y, x), torch.zeros(50, dtype=torch.float64))
        if name != "embedding":  # which may map two targets to one point
            assert (reward(y + normal(2, 50, D), y, x) < 0).all()
        assert (reward(y + normal(2, 50, D), y, x) <= 0).all()


@EACH
def test_it_starts_as_the_simple_reward(name: str) -> None:
    y_hat, y, x = normal(0, 5, D), normal(1, 5, D), normal(2, 5, D_X)
    reward = REWARDS[name]().double()
    torch.testing.assert_close(reward(y_hat, y, x), -(y_hat - y).square().sum(dim=-1))


@EACH
def test_every_parameter_matters_once_it_has_moved(name: str) -> None:
    reward = randomise(REWARDS[name](), 0)
    reward(normal(0, 20, D), normal(1, 20, D), normal(2, 20, D_X)).sum().backward()
    for parameter in reward.parameters():
        assert parameter.grad is not None
        assert parameter.grad.norm() > 0


@EACH
def test_it_broadcasts_over_samples(name: str) -> None:
    reward = randomise(REWARDS[name](), 0)
    samples, y, x = normal(0, 7, 5, D), normal(1, 5, D), normal(2, 5, D_X)
    found = reward(samples, y, x)
    assert found.shape == (7, 5)
    for k in range(7):
        for s in range(5):
            torch.testing.assert_close(found[k, s], reward(samples[k, s], y[s], x[s]))
    one_for_all = reward(samples[0, 0], y, x)
    torch.testing.assert_close(one_for_all[2], reward(samples[0, 0], y[2], x[2]))
    members = reward(normal(3, 7, 4, 5, D), normal(4, 4, 5, D), normal(5, 4, 5, D_X))
    assert members.shape == (7, 4, 5)


@EACH
def test_using_other_parameters_for_one_call(name: str) -> None:
    reward, other = randomise(REWARDS[name](), 0), randomise(REWARDS[name](), 1)
    arguments = normal(0, 5, D), normal(1, 5, D), normal(2, 5, D_X)
    before = reward(*arguments)
    params = {key: value.requires_grad_() for key, value in other.outer_params().items()}
    found = reward.using(params, lambda r: r(*arguments))
    torch.testing.assert_close(found, other(*arguments))
    assert torch.equal(reward(*arguments), before)
    gradients = torch.autograd.grad(found.sum(), list(params.values()))
    assert all(gradient.norm() > 0 for gradient in gradients)
    assert all(parameter.grad is None for parameter in reward.parameters())


@EACH
def test_using_some_parameters_keeps_the_rest(name: str) -> None:
    reward = randomise(REWARDS[name](), 0)
    arguments = normal(0, 5, D), normal(1, 5, D), normal(2, 5, D_X)
    torch.testing.assert_close(reward.using({}, lambda r: r(*arguments)), reward(*arguments))
    first = next(iter(reward.outer_params()))
    changed = reward.using({first: reward.outer_params()[first] + 0.5}, lambda r: r(*arguments))
    assert not torch.allclose(changed, reward(*arguments))


def test_using_a_parameter_that_it_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"MahalanobisReward has no parameter 'u'; .*\['log_u'\]"):
        REWARDS["scalar"]().using({"u": torch.ones(1)}, lambda r: r)


@EACH
def test_outer_params_are_copies_of_the_learned_parameters(name: str) -> None:
    reward = randomise(REWARDS[name](), 0)
    params = reward.outer_params()
    assert params.keys() == dict(reward.named_parameters()).keys()
    for key, value in params.items():
        assert not value.requires_grad
        value.add_(1.0)
        assert not torch.equal(value, reward.get_parameter(key))
    first = next(iter(params))
    reward.get_parameter(first).requires_grad_(False)
    assert reward.outer_params().keys() == params.keys() - {first}
    assert reward.requires_grad_(False).outer_params() == {}


@pytest.mark.parametrize("name", [*REWARDS, "one_hot"])
def test_a_saved_state_brings_it_back(name: str) -> None:
    def make() -> Reward:
        return OneHotReward(D, "full") if name == "one_hot" else REWARDS[name]()

    reward, restored = randomise(make(), 0), make().double()
    restored.load_state_dict(reward.state_dict())
    classes = torch.arange(5) % D
    if name == "one_hot":
        arguments = (classes, classes.flip(0), None)
    else:
        arguments = (normal(0, 5, D), normal(1, 5, D), normal(2, 5, D_X))
    assert torch.equal(restored(*arguments), reward(*arguments))


def test_the_start_of_a_state_dependent_reward_is_saved_too() -> None:
    saved = StateDependentReward(D, D_X, initial=5.0)
    restored = StateDependentReward(D, D_X, initial=1.0, seed=3)
    restored.load_state_dict(saved.state_dict())
    x = torch.ones(1, D_X)
    assert torch.equal(restored.precision(x).matrix(), saved.precision(x).matrix())


@pytest.mark.parametrize("name", ["state_diagonal", "state_full", "neural"])
def test_the_inputs_are_needed(name: str) -> None:
    with pytest.raises(ValueError, match="needs the inputs x"):
        REWARDS[name]()(torch.zeros(5, D), torch.zeros(5, D))


@pytest.mark.parametrize("name", ["state_full", "neural", "embedding"])
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    state = torch.get_rng_state()
    first, second = (REWARDS[name]().state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert first["network.0.weight"].norm() > 0


def test_another_seed_gives_other_weights() -> None:
    first, second = (NeuralReward(D, D_X, seed=seed) for seed in (0, 1))
    assert not torch.equal(first.network[0].weight, second.network[0].weight)
