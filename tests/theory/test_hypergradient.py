"""The bilevel objective's hypergradient against the general solvers and against known values."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import Bilevel, FunctionalProblem, hypergradient, make_solver
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import Gaussian

Params = dict[str, Tensor]
E, D, NUM_INPUTS = 2, 3, 4
Structure = Literal["scalar", "diagonal"]
CASES = [
    pytest.param("diagonal", 1.0, id="diagonal"),
    pytest.param("diagonal", 0.3, id="diagonal-cold"),
    pytest.param("scalar", 2.0, id="scalar"),
]


def make(structure: Structure, temperature: float, members: int = E, dims: int = D) -> Bilevel:
    config = BilevelConfig(reward=structure, temperature=temperature)
    objective = Bilevel(members, dims, config).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        objective.reward.log_u.normal_(generator=generator)
    return objective


class InnerLoss(nn.Module):
    """`Bilevel.inner_loss` as a module, so that its reward can be called with other parameters."""

    def __init__(self, objective: Bilevel) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, prediction: Gaussian, target: Tensor) -> Tensor:
        return self.objective.inner_loss(prediction, target)


def gaussian(outputs: Tensor) -> Gaussian:
    """`[E, N, 2 D]` as means and log-variances."""
    return Gaussian(*outputs.chunk(2, dim=-1))


def tabular_problem(objective: Bilevel) -> tuple[FunctionalProblem, Params]:
    """A model with free outputs at each of a few inputs, and its inner solution.

    Its parameters are the outputs, so the parameters' hypergradient is the functional one too.
    """
    generator = torch.Generator().manual_seed(1)
    inner_loss = InnerLoss(objective)

    def data(x: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
        noise = torch.randn(len(x), D, generator=generator, dtype=torch.float64)
        return x, x[:, None] + scale * noise

    def inner(outputs: Tensor, outer: Params, _x: Tensor, y: Tensor) -> Tensor:
        params = {"objective.reward.log_u": outer["log_u"]}
        losses: Tensor = torch.func.functional_call(inner_loss, params, (gaussian(outputs), y))
        return losses

    def expected_inner(outputs: Tensor, outer: Params, x: Tensor, solution: Tensor) -> Tensor:
        return inner(outputs, outer, x, gaussian(solution).mean)

    def outer_nll(outputs: Tensor, _outer: Params, _x: Tensor, y: Tensor) -> Tensor:
        return gaussian_nll(gaussian(outputs), y).sum(dim=-1)

    def model(theta: Params, x: Tensor) -> Tensor:
        return torch.cat([theta["mean"][:, x], theta["log_var"][:, x]], dim=-1)

    x_in, y_in = data(torch.arange(NUM_INPUTS).repeat(6))
    x_out = torch.randint(NUM_INPUTS, (25,), generator=generator)
    problem = FunctionalProblem(model, inner, outer_nll, expected_inner, (x_in, y_in), data(x_out))
    means = torch.stack([y_in[x_in == i].mean(dim=0) for i in range(NUM_INPUTS)])
    solution = {
        "mean": means.expand(E, -1, -1).clone(),
        "log_var": objective.solution_log_var[:, None].expand(-1, NUM_INPUTS, -1).clone(),
    }
    return problem, solution


def own_hypergradient(objective: Bilevel, problem: FunctionalProblem, theta: Params) -> Tensor:
    """The objective's own, of the same outer loss: a mean over members instead of their sum."""
    x, y = problem.outer_data
    mean = gaussian(problem.model_fn(theta, x)).mean
    gradient, residual = objective.hypergradient((mean - y).square().mean(dim=1))
    assert residual <= 1e-12
    return gradient / E


@pytest.mark.parametrize(("structure", "temperature"), CASES)
@pytest.mark.parametrize("solver", ["functional", "dense", "cg"])
def test_it_equals_that_of_the_general_solvers(
    structure: Structure, temperature: float, solver: str
) -> None:
    objective = make(structure, temperature)
    problem, theta = tabular_problem(objective)
    phi = {"log_u": objective.reward.log_u.detach()}
    result = hypergradient(problem, theta, phi, make_solver(solver))
    assert result.stationarity <= 1e-12
    assert not result.negative_curvature
    expected = own_hypergradient(objective, problem, theta)
    torch.testing.assert_close(result.grad["log_u"], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("structure", "temperature"), CASES)
def test_it_only_needs_the_means_as_they_are(structure: Structure, temperature: float) -> None:
    """In function space the means need not be the inner problem's, as in the midst of training."""
    objective = make(structure, temperature)
    problem, theta = tabular_problem(objective)
    theta["mean"] = theta["mean"] + torch.linspace(-2, 2, E, dtype=torch.float64)[:, None, None]
    phi = {"log_u": objective.reward.log_u.detach()}
    result = hypergradient(problem, theta, phi, make_solver("functional"))
    expected = own_hypergradient(objective, problem, theta)
    torch.testing.assert_close(result.grad["log_u"], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("structure", "temperature"), CASES)
def test_it_is_the_slope_of_the_outer_loss_at_the_inner_solution(
    structure: Structure, temperature: float
) -> None:
    objective = make(structure, temperature)
    generator = torch.Generator().manual_seed(2)
    mean, y = torch.randn(2, E, 30, D, generator=generator, dtype=torch.float64)
    log_u = objective.reward.log_u.detach().clone().requires_grad_()
    log_var = (math.log(temperature / 2) - log_u.expand(E, D))[:, None].expand_as(mean)
    nll = gaussian_nll(Gaussian(mean, log_var), y).mean(dim=1).sum()
    (expected,) = torch.autograd.grad(nll, log_u)
    found, _ = objective.hypergradient((mean - y).square().mean(dim=1))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("u", "per_u"), [(1.0, 1.0625), (0.6, 0.7292), (0.1, -3.4375)])
def test_the_values_of_the_theory(u: float, per_u: float) -> None:
    """`dNLL / du = s^2 / temperature - 1 / (2 u)`; ours is per log u, so u times as much."""
    objective = make("diagonal", 1.0, members=1, dims=1)
    with torch.no_grad():
        objective.reward.log_u.fill_(math.log(u))
    gradient, _ = objective.hypergradient(torch.full((1, 1), 1.5625, dtype=torch.float64))
    assert gradient.item() / u == pytest.approx(per_u, abs=5e-5)


def both(function: Callable[[Bilevel], Tensor]) -> tuple[Tensor, Tensor]:
    """Of a diagonal reward with equal weights, and of a scalar one with the same weight."""
    diagonal, scalar = make("diagonal", 1.0), make("scalar", 1.0)
    with torch.no_grad():
        diagonal.reward.log_u.copy_(scalar.reward.log_diagonal)
    return function(diagonal), function(scalar)


def test_a_scalar_weight_gets_the_sum_over_dimensions() -> None:
    second_moment = torch.tensor([[0.1, 1.0, 5.0], [2.0, 0.3, 0.7]], dtype=torch.float64)
    diagonal, scalar = both(lambda objective: objective.hypergradient(second_moment)[0])
    torch.testing.assert_close(scalar, diagonal.sum(dim=1, keepdim=True))
