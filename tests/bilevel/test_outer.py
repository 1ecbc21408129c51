"""Outer objectives against brute force and against linear-Gaussian systems."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import BilevelTrainer, MultiStepNLL, as_model_fn, held_out_nll
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import CategoricalHead, DiagonalGaussianHead, FullGaussianHead, Head
from mbrl_bilevel.rewards import MahalanobisReward

SIZE, NUM_ACTIONS = 2, 1
HEAD = DiagonalGaussianHead(SIZE)
DECAY = torch.tensor([[0.9, 0.2], [-0.3, 0.8]], dtype=torch.float64)
FORCE = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
VARIANCE = torch.tensor([0.04, 0.25], dtype=torch.float64)


class LinearGaussian(nn.Module):
    """`obs' = DECAY obs + FORCE action + noise` of constant `VARIANCE`, as a change of obs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([DECAY - torch.eye(SIZE), FORCE], dim=1))
        self.log_var = nn.Parameter(VARIANCE.log())

    def forward(self, x: Tensor) -> Tensor:
        mean = x @ self.weight.T
        return torch.cat([mean, self.log_var.expand_as(mean)], dim=-1)


def trajectories(num: int, num_steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    actions = torch.randn(num, num_steps, NUM_ACTIONS, **options)
    obs = [torch.randn(num, SIZE, **options)]
    for t in range(num_steps):
        noise = VARIANCE.sqrt() * torch.randn(num, SIZE, **options)
        obs.append(obs[-1] @ DECAY.T + actions[:, t] @ FORCE.T + noise)
    return torch.stack(obs, dim=1), actions


def multi_step_nll(model: nn.Module, obs: Tensor, actions: Tensor, **settings: Any) -> Tensor:
    objective = MultiStepNLL(as_model_fn(model), HEAD, obs, actions, **settings)
    return objective(dict(model.named_parameters()), {})


def one_step_nll(obs: Tensor, actions: Tensor) -> Tensor:
    x = torch.cat([obs[:, :-1], actions], dim=-1).flatten(0, 1)
    change = (obs[:, 1:] - obs[:, :-1]).flatten(0, 1)
    model = LinearGaussian()
    return held_out_nll(as_model_fn(model), HEAD, (x, change))(dict(model.named_parameters()), {})


def marginal_nll(obs: Tensor, actions: Tensor) -> Tensor:
    """The exact one: `obs_t | obs_0, actions` is Gaussian, by the Kalman filter's prediction."""
    mean = obs[:, 0]
    covariance = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    losses = []
    for t in range(actions.shape[1]):
        mean = mean @ DECAY.T + actions[:, t] @ FORCE.T
        covariance = DECAY @ covariance @ DECAY.T + VARIANCE.diag()
        exact = torch.distributions.MultivariateNormal(mean, covariance)
        losses.append(-exact.log_prob(obs[:, t + 1]))
    return torch.stack(losses).mean()


def test_held_out_nll_is_the_mean_of_the_heads() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(5, SIZE, dtype=torch.float64)
    model = LinearGaussian()
    nll = held_out_nll(as_model_fn(model), HEAD, (x, y))
    expected = -torch.stack([HEAD.log_prob(model(x)[i], y[i]) for i in range(5)]).mean()
    torch.testing.assert_close(nll(dict(model.named_parameters()), {}), expected)
    shifted = {"log_var": model.log_var + 1}
    assert nll(shifted, {}) != nll({}, {})


@pytest.mark.parametrize(("num_x", "num_y"), [(0, 0), (3, 2)])
def test_held_out_nll_refuses_unfit_data(num_x: int, num_y: int) -> None:
    data = torch.zeros(num_x, 3), torch.zeros(num_y, SIZE)
    with pytest.raises(ValueError, match=f"{num_x} inputs and {num_y} targets"):
        held_out_nll(as_model_fn(LinearGaussian()), HEAD, data)


@pytest.mark.parametrize("num_particles", [None, 1, 7])
def test_one_step_is_the_one_step_nll(num_particles: int | None) -> None:
    obs, actions = trajectories(10, 1)
    nll = multi_step_nll(LinearGaussian(), obs, actions, num_particles=num_particles)
    torch.testing.assert_close(nll, one_step_nll(obs, actions))


def test_equals_a_plain_loop() -> None:
    obs, actions = trajectories(4, 3)
    model = LinearGaussian()
    objective = MultiStepNLL(as_model_fn(model), HEAD, obs, actions, num_particles=5, seed=3)
    noise = objective.noise
    assert noise.shape == (3, 5, 4, SIZE)
    losses = []
    with torch.no_grad():
        for n in range(4):
            particles = [obs[n, 0] for _ in range(5)]
            for t in range(3):
                densities = []
                for p in range(5):
                    mean = DECAY @ particles[p] + FORCE @ actions[n, t]
                    density = torch.distributions.Normal(mean, VARIANCE.sqrt())
                    densities.append(density.log_prob(obs[n, t + 1]).sum().exp())
                    particles[p] = mean + VARIANCE.sqrt() * noise[t, p, n]
                losses.append(-torch.stack(densities).mean().log())
    torch.testing.assert_close(
        objective(dict(model.named_parameters()), {}).detach(), torch.stack(losses).mean()
    )


def test_converges_to_the_marginal_likelihood_of_a_linear_gaussian_system() -> None:
    obs, actions = trajectories(100, 4)
    exact = marginal_nll(obs, actions).item()
    errors = []
    for num_particles in (10, 100, 3000):
        nll = multi_step_nll(LinearGaussian(), obs, actions, num_particles=num_particles)
        errors.append(nll.item() - exact)
    assert errors[0] > errors[1] > abs(errors[2])  # from above: Jensen
    assert abs(errors[2]) < 5e-3


def test_without_noise_the_mean_is_propagated() -> None:
    obs, actions = trajectories(6, 3)
    nll = multi_step_nll(LinearGaussian(), obs, actions, num_particles=None)
    mean, losses = obs[:, 0], []
    for t in range(3):
        mean = mean @ DECAY.T + actions[:, t] @ FORCE.T
        density = torch.distributions.Normal(mean, VARIANCE.sqrt())
        losses.append(-density.log_prob(obs[:, t + 1]).sum(dim=-1))
    torch.testing.assert_close(nll.detach(), torch.stack(losses).mean())


def test_the_noise_is_frozen_and_seeded() -> None:
    obs, actions = trajectories(3, 2)
    model = LinearGaussian()
    objective = MultiStepNLL(as_model_fn(model), HEAD, obs, actions, num_particles=2, seed=1)
    params = dict(model.named_parameters())
    assert torch.equal(objective(params, {}), objective(params, {}))
    same = multi_step_nll(model, obs, actions, num_particles=2, seed=1)
    other = multi_step_nll(model, obs, actions, num_particles=2, seed=2)
    assert torch.equal(objective(params, {}), same)
    assert not torch.equal(same, other)


def test_its_gradient_goes_through_all_steps() -> None:
    obs, actions = trajectories(4, 3)
    model = LinearGaussian()
    objective = MultiStepNLL(as_model_fn(model), HEAD, obs, actions, num_particles=3)

    def loss(weight: Tensor, log_var: Tensor) -> Tensor:
        return objective({"weight": weight, "log_var": log_var}, {})

    inputs = (model.weight.detach().requires_grad_(), model.log_var.detach().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


def test_a_full_covariance_propagates_its_correlations() -> None:
    obs, actions = trajectories(5, 3)
    head = FullGaussianHead(SIZE)

    class Full(LinearGaussian):
        def forward(self, x: Tensor) -> Tensor:
            mean = x @ self.weight.T
            rest = torch.cat([0.5 * self.log_var, self.log_var.new_zeros(1)])
            return torch.cat([mean, rest.expand(*mean.shape[:-1], -1)], dim=-1)

    model = Full()
    objective = MultiStepNLL(as_model_fn(model), head, obs, actions, num_particles=4)
    expected = multi_step_nll(LinearGaussian(), obs, actions, num_particles=4)
    torch.testing.assert_close(objective(dict(model.named_parameters()), {}), expected)


def test_a_step_of_ones_own_for_normalised_quantities() -> None:
    obs, actions = trajectories(5, 3)
    scale = torch.tensor([2.0, 0.5], dtype=torch.float64)

    class Normalised(LinearGaussian):
        """Sees `obs / scale`, predicts `change / scale`."""

        def forward(self, x: Tensor) -> Tensor:
            outputs = super().forward(torch.cat([x[:, :SIZE] * scale, x[:, SIZE:]], dim=-1))
            mean, log_var = outputs.split(SIZE, dim=-1)
            return torch.cat([mean / scale, log_var - 2 * scale.log()], dim=-1)

    def step(predict: Callable[[Tensor], Tensor], obs: Tensor, action: Tensor) -> Tensor:
        mean, log_var = predict(torch.cat([obs / scale, action], -1)).split(SIZE, dim=-1)
        return torch.cat([obs + scale * mean, log_var + 2 * scale.log()], dim=-1)

    nll = multi_step_nll(Normalised(), obs, actions, step_fn=step)
    torch.testing.assert_close(nll, multi_step_nll(LinearGaussian(), obs, actions))


def test_learns_a_reward_by_several_steps() -> None:
    obs, actions = trajectories(100, 3, seed=1)
    x = torch.cat([obs[:, :-1], actions], dim=-1).flatten(0, 1)
    change = (obs[:, 1:] - obs[:, :-1]).flatten(0, 1)
    model = LinearGaussian()
    reward = MahalanobisReward(SIZE, initial=5.0).double()
    held_out = trajectories(200, 3, seed=2)
    trainer = BilevelTrainer(
        model,
        reward,
        solver="cg",
        outer_objective=MultiStepNLL(as_model_fn(model), HEAD, *held_out, num_particles=20),
        outer_optimizer=lambda params: torch.optim.SGD(params, 1.0),
        inner_lr=0.02,
        inner_steps=10,
    )
    fit = trainer.fit((x, change), None, 25)
    truth = multi_step_nll(LinearGaussian(), *held_out, num_particles=20).item()
    assert fit.outer_loss == pytest.approx(truth, abs=0.05)
    sigma = reward.precision().covariance(1.0).diagonal().sqrt()
    assert (sigma / VARIANCE.sqrt()).log().abs().max() < 0.15


@pytest.mark.parametrize(
    ("obs", "actions", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 1, 1), r"must be \[N, k \+ 1, D\] and \[N, k, A\]"),
        (torch.zeros(3, 2, 5), torch.zeros(3, 1, 1), "the head has 2 dimensions"),
        (torch.zeros(3, 2, 2), torch.zeros(3, 2, 1), r"k actions lead through k \+ 1"),
        (torch.zeros(3, 2, 2), torch.zeros(4, 1, 1), r"k actions lead through k \+ 1"),
        (torch.zeros(0, 2, 2), torch.zeros(0, 1, 1), "there is no step to predict"),
        (torch.zeros(3, 1, 2), torch.zeros(3, 0, 1), "there is no step to predict"),
        (torch.full((3, 2, 2), math.nan), torch.zeros(3, 1, 1), "obs holds nan"),
        (torch.zeros(3, 2, 2), torch.full((3, 1, 1), math.inf), "actions holds nan or infinity"),
    ],
)
def test_unfit_trajectories(obs: Tensor, actions: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiStepNLL(as_model_fn(LinearGaussian()), HEAD, obs, actions)


@pytest.mark.parametrize(
    ("head", "num_particles", "message"),
    [
        (HEAD, 0, "num_particles=0; it must be at least 1"),
        (CategoricalHead(2), 1, "needs a Gaussian head, not head 'categorical'"),
    ],
)
def test_impossible_settings(head: Head, num_particles: int, message: str) -> None:
    obs, actions = trajectories(3, 2)
    with pytest.raises(ConfigError, match=message):
        MultiStepNLL(as_model_fn(LinearGaussian()), head, obs, actions, num_particles)


def test_a_step_must_return_what_the_head_reads() -> None:
    obs, actions = trajectories(3, 2)
    with pytest.raises(ValueError, match=r"outputs have shape \[48, 3\]"):
        multi_step_nll(
            LinearGaussian(),
            obs,
            actions,
            step_fn=lambda _, obs, action: torch.cat([obs, action], -1),
        )
