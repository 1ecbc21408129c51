"""Weight decay as an outer parameter: its hypergradient, what it finds, and that it goes on."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import BilevelConfig, ObjectiveConfig
from mbrl_bilevel.config.schema import FIXED_DECAY
from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble
from mbrl_bilevel.dynamics.learned_decay import (
    HIGHEST_RATE,
    INITIAL_RATE,
    LOWEST_RATE,
    LearnedDecay,
)
from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import RewardFn, TaskFunctions
from tests.dynamics.cases import BOX, CONFIGS, generator, linear_system, make_model, settings

NUM_NOISE = 10
LR = 0.01


def among_noise(count: int, seed: int) -> Transitions:
    """Two dimensions that move each other, among observations that have to do with nothing."""
    draws = torch.randn(count, 2 * NUM_NOISE + 6, generator=generator(seed))
    obs, action = draws[:, :2], draws[:, 2:3].tanh()
    drift = torch.stack([obs[:, 1].sin(), action[:, 0] - obs[:, 0] * obs[:, 1]], dim=1)
    next_obs = obs + drift + 0.02 * draws[:, 3:5]
    noise, next_noise = draws[:, 6:].chunk(2, dim=1)
    return Transitions(
        torch.cat([obs, noise], dim=1).numpy(),
        action.numpy(),
        np.zeros(count, np.float32),
        torch.cat([next_obs, next_noise], dim=1).numpy(),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
    )


TRAINING, HELD_OUT, TEST = among_noise(100, 0), among_noise(40, 1), among_noise(500, 2)


def paid_for_first_two(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    return next_obs[..., 0] - 2 * next_obs[..., 1].square() + action[..., 0]


def paid_for_living(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    return torch.ones_like(obs[..., 0])


def make(
    objective: str | ObjectiveConfig, reward_fn: RewardFn = paid_for_first_two, **changes: object
) -> tuple[DynamicsModel, ModelTrainer]:
    config = settings(hidden_sizes=[32, 32], num_updates=600, eval_every=50, **changes)
    size = TRAINING.obs.shape[1]
    model = DynamicsModel(
        size,
        ActionCodec(BOX),
        config,
        make_objective(
            CONFIGS[objective] if isinstance(objective, str) else objective,
            config.ensemble_size,
            size,
        ),
        learns_reward=False,
        learns_termination=False,
        generator=generator(),
    )
    return model, ModelTrainer(model, config, 0, TaskFunctions(reward_fn))


def relevant_error(model: DynamicsModel) -> float:
    """Of the two dimensions that are no noise, on test data, normalised."""
    inputs, targets = model.tensors(TEST)
    x, y = model.input_normalizer.normalize(inputs), model.target_normalizer.normalize(targets)
    with torch.no_grad():
        mean = model.network(x.expand(model.network.ensemble_size, -1, -1)).mean
    return float((mean - y)[..., :2].square().mean().sqrt())


def test_the_hypergradient_is_the_derivative_of_the_loss_after_one_update() -> None:
    network = GaussianEnsemble(3, 2, 2, [5, 4], generator()).double()
    weights = list(network.weights)
    decay = LearnedDecay(weights, 2)
    decay.log_rates.copy_(torch.randn(len(decay.log_rates), generator=generator(3)))
    x = torch.randn(2, 7, 3, generator=generator(1), dtype=torch.float64)
    y = torch.randn(2, 7, 2, generator=generator(2), dtype=torch.float64)
    directions = [torch.randn_like(weight) for weight in weights]
    before = [weight.detach().clone() for weight in weights]

    def updated(log_rates: Tensor) -> Tensor:
        """The outer loss after an update with these rates; the network stays there."""
        rates = LearnedDecay(weights, 2)
        rates.log_rates.copy_(log_rates)
        with torch.no_grad():
            for weight, start in zip(weights, before, strict=True):
                weight.copy_(start)
            rates.shrink(LR)
            for weight, direction in zip(weights, directions, strict=True):
                weight.sub_(LR * direction)
        return gaussian_nll(network(x), y).mean(dim=(1, 2)).sum()

    (outer_gradient,) = torch.autograd.grad(updated(decay.log_rates), weights[0])
    with torch.no_grad():
        for weight, start in zip(weights, before, strict=True):
            weight.copy_(start)
    found = LR * decay.hypergradient(outer_gradient)
    step = 1e-4
    with torch.no_grad():
        expected = torch.stack(
            [
                (updated(decay.log_rates + bump) - updated(decay.log_rates - bump)) / (2 * step)
                for bump in step * torch.eye(len(decay.log_rates), dtype=torch.float64)
            ]
        )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-10)


def test_shrinking_is_the_decay_of_adamw() -> None:
    weights = [nn.Parameter(torch.randn(2, 3, 4, generator=generator())) for _ in range(2)]
    others = [nn.Parameter(weight.detach().clone()) for weight in weights]
    decay = LearnedDecay(weights, 3)
    own = torch.optim.AdamW(weights, lr=LR, weight_decay=0.0)
    reference = torch.optim.AdamW(
        [
            {"params": others[:1], "weight_decay": INITIAL_RATE},
            {"params": others[1:], "weight_decay": FIXED_DECAY},
        ],
        lr=LR,
    )
    for step in range(3):
        for one, other in zip(weights, others, strict=True):
            one.grad = torch.randn(one.shape, generator=generator(step))
            other.grad = one.grad.clone()
        decay.shrink(LR)
        own.step()
        reference.step()
    for one, other in zip(weights, others, strict=True):
        torch.testing.assert_close(one, other)


def test_inputs_that_only_serve_to_memorise_are_switched_off() -> None:
    """And what matters is learned far better than with any fixed decay, or by likelihood."""
    model, trainer = make("bilevel", weight_decay="learned")
    trainer.fit(TRAINING, HELD_OUT, generator())
    size = model.network.weights[0].detach().square().sum(dim=(0, 2)).sqrt()
    relevant, noise = torch.cat([size[:2], size[-1:]]), size[2:-1]  # the action is the last
    assert noise.max() < 0.3 * relevant.min()
    assert trainer.outer.decay is not None
    rates = trainer.outer.decay.input_rates
    assert torch.cat([rates[:2], rates[-1:]]).max() < rates[2:-1].min()

    for other in (("bilevel", 1e-4), ("bilevel", 1.0), ("nll", "learned"), ("nll", 1.0)):
        compared, compared_trainer = make(other[0], weight_decay=other[1])
        compared_trainer.fit(TRAINING, HELD_OUT, generator())
        assert relevant_error(model) < 0.6 * relevant_error(compared), other


def with_contacts(data: Transitions, seed: int) -> Transitions:
    """The same, but two steps in a hundred end somewhere else altogether."""
    gen = generator(seed)
    hit = (torch.rand(len(data.obs), generator=gen) < 0.02).numpy()
    thrown = 20 * torch.randn(len(data.obs), 2, generator=gen).numpy()
    hit[0] = True
    next_obs = data.next_obs.copy()
    next_obs[hit, :2] += thrown[hit]
    return dataclasses.replace(data, next_obs=next_obs)


def test_a_few_contacts_do_not_decide_which_inputs_are_kept_nor_what_is_learned() -> None:
    training, held_out = among_noise(300, 0), among_noise(100, 1)
    model, trainer = make("bilevel", weight_decay="learned")
    trainer.fit(with_contacts(training, 5), with_contacts(held_out, 6), generator())
    size = model.network.weights[0].detach().square().sum(dim=(0, 2)).sqrt()
    assert size[2:-1].max() < 0.1 * size[:2].min()
    assert trainer.outer.decay is not None
    rates = trainer.outer.decay.input_rates
    assert torch.cat([rates[:2], rates[-1:]]).max() < 0.9 * HIGHEST_RATE

    without, trainer = make(BilevelConfig(reward="diagonal", tails=None), weight_decay="learned")
    trainer.fit(with_contacts(training, 5), with_contacts(held_out, 6), generator())
    assert relevant_error(model) < 0.5 * relevant_error(without)


def test_actions_keep_a_rate_that_is_not_learned() -> None:
    weights = [nn.Parameter(torch.ones(1, 3, 2)), nn.Parameter(torch.ones(1, 2, 2))]
    decay = LearnedDecay(weights, 2)
    decay.outer_step(torch.ones(1, 3, 2))
    assert (decay.input_rates[:2] != INITIAL_RATE).all()
    assert decay.input_rates[2].item() == pytest.approx(FIXED_DECAY)
    before = weights[0].detach().clone()
    decay.shrink(LR)
    torch.testing.assert_close(weights[0][:, 2], before[:, 2] * (1 - LR * FIXED_DECAY))
    assert (weights[0][:, :2] < before[:, :2] - 0.5 * LR).all()


def test_rates_rest_until_the_task_says_what_counts() -> None:
    """Then they are learned as if they had never rested, and go on when it is silent for once."""
    model, trainer = make("bilevel", paid_for_living)
    metrics = trainer.fit(TRAINING, HELD_OUT, generator())
    assert "bilevel/decay_max" not in metrics
    decay = trainer.outer.decay
    assert decay is not None
    torch.testing.assert_close(decay.input_rates, torch.full_like(decay.input_rates, FIXED_DECAY))
    plain, plain_trainer = make("bilevel", paid_for_living, weight_decay=FIXED_DECAY)
    plain_trainer.fit(TRAINING, HELD_OUT, generator())
    assert relevant_error(model) < 1.1 * relevant_error(plain)
    asked_for = make("bilevel", paid_for_living, weight_decay="learned")[1]
    assert "bilevel/decay_max" in asked_for.fit(TRAINING, HELD_OUT, generator())

    awake = LearnedDecay(list(model.network.weights), model.obs_size)
    gradient = torch.randn(model.network.weights[0].shape, generator=generator())
    assert decay.outer_step(gradient) == awake.outer_step(gradient)
    assert not decay.rest()
    torch.testing.assert_close(decay.input_rates, awake.input_rates)


def test_rates_stay_within_their_bounds() -> None:
    decay = LearnedDecay([nn.Parameter(torch.ones(1, 2, 3))], 2)
    signs = torch.tensor([[[1.0], [-1.0]]])
    for _ in range(2000):
        decay.outer_step(signs.expand(1, 2, 3))
    highest, lowest = decay.input_rates.tolist()
    assert highest == pytest.approx(HIGHEST_RATE)
    assert lowest == pytest.approx(LOWEST_RATE)


def test_a_later_fit_goes_on_from_saved_rates() -> None:
    config = settings(weight_decay="learned")

    def trainer() -> ModelTrainer:
        return ModelTrainer(make_model("nll", config), config, 0)

    first = trainer()
    first.fit(linear_system(160), linear_system(40, seed=1), generator())
    second = trainer()
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for each in (first, second):
        each.fit(linear_system(160), linear_system(40, seed=1), generator(1))
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert first.outer.decay is not None
    assert second.outer.decay is not None
    assert torch.equal(first.outer.decay.log_rates, second.outer.decay.log_rates)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    decay = LearnedDecay([nn.Parameter(torch.ones(1, 2, 3))], 2)
    assert decay.outer_step(torch.full((1, 2, 3), torch.nan)) == {}
    assert torch.equal(decay.log_rates, torch.zeros(2))
