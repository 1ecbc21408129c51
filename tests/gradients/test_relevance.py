"""The reward that a task asks for, and inputs that do not matter, found by hypergradients."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import (
    BilevelProblem,
    hypergradient,
    make_solver,
    with_weight_decay,
)
from tests.gradients.cases import (
    Case,
    Params,
    central_differences,
    inner_derivatives,
    ravel,
    relative_error,
    unravel,
)
from tests.gradients.relevance_cases import SIZE, relevance

TRUE_WEIGHT = 1.5


def learned(case: Case, num_steps: int, lr: float) -> tuple[Params, Params]:
    """Outer and inner parameters after Adam on hypergradients at exact inner solutions."""
    outer = {name: value.clone().requires_grad_() for name, value in case.outer_params.items()}
    optimiser = torch.optim.Adam(outer.values(), lr=lr)
    for _ in range(num_steps):
        inner = case.solve(outer)
        case = replace(case, inner_start=inner)
        grad = hypergradient(case.problem, inner, outer, make_solver("cg")).grad
        for name, value in outer.items():
            value.grad = grad[name]
        optimiser.step()
    outer = {name: value.detach() for name, value in outer.items()}
    return outer, case.solve(outer)


def relevant_share(outer: Params) -> float:
    return outer["log_u"].softmax(dim=0)[0].item()


@pytest.mark.parametrize("skewed", [False, True])
def test_its_hypergradient_is_that_of_central_differences(skewed: bool) -> None:
    case = relevance("return")
    if skewed:
        log_u = torch.linspace(1.0, -1.0, SIZE, dtype=torch.float64)
        case = replace(case, outer_params={"log_u": log_u})
    inner = case.solve(case.outer_params)
    expected = central_differences(replace(case, inner_start=inner))
    for solver in (make_solver("cg"), make_solver("dense"), make_solver("nystrom", rank=100)):
        result = hypergradient(case.problem, inner, case.outer_params, solver)
        assert relative_error(result.grad, expected) <= 1e-3
        assert not result.negative_curvature


def test_the_return_asks_for_the_relevant_dimension_alone() -> None:
    case = relevance("return")
    before = case.problem.outer_objective(case.solve(case.outer_params), case.outer_params)
    outer, inner = learned(case, num_steps=20, lr=0.4)
    assert relevant_share(outer) >= 0.95
    assert case.problem.outer_objective(inner, outer) <= 0.05 * before


@pytest.mark.parametrize("kind", ["nll", "mse"])
def test_likelihood_and_squared_error_ask_for_the_others(kind: str) -> None:
    outer, inner = learned(relevance(kind), num_steps=12, lr=0.3)
    assert relevant_share(outer) <= 0.3
    # The model then knows next to nothing of what the reward depends on.
    return_error = relevance("return").problem.outer_objective(inner, outer)
    assert return_error >= 0.9


NUM_GROUPS, GROUP_SIZE = 5, 4
"""Of inputs that do not matter."""
NUM_INPUTS = 1 + NUM_GROUPS * GROUP_SIZE
INITIAL = 1e-3


class QuadraticCase(Case):
    """Its inner solution takes one Newton step."""

    def solve(self, outer_params: Params) -> Params:
        outer = {name: value.detach() for name, value in outer_params.items()}
        flat = ravel(self.inner_start)
        grad, hessian = inner_derivatives(self.problem, flat, self.inner_start, outer)
        return unravel(flat - torch.linalg.solve(hessian, grad), self.inner_start)


def regression_data(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """`y [N, 1]` follows the first of the inputs; noise of variance 1."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, NUM_INPUTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(num, 1, generator=generator, dtype=torch.float64)
    return x, TRUE_WEIGHT * x[:, :1] + noise


def linear_error(theta: Params, data: tuple[Tensor, Tensor]) -> Tensor:
    x, y = data
    return (x @ torch.cat(list(theta.values()), dim=1).mT - y).square().mean()


def decayed_regression(kind: str, seed: int) -> Case:
    """One decay a column of one weight, or one a weight of each group of inputs."""
    inner_data = regression_data(40, seed=3 * seed)
    outer_data = regression_data(4000, seed=3 * seed + 1)
    sizes = [1] + NUM_GROUPS * [GROUP_SIZE] if kind == "tensor" else [NUM_INPUTS]
    start = {f"w{i}": torch.zeros(1, n, dtype=torch.float64) for i, n in enumerate(sizes)}
    inner_objective, log_decays = with_weight_decay(
        lambda theta, _: linear_error(theta, inner_data), start, kind, initial=INITIAL
    )
    problem = BilevelProblem(inner_objective, lambda theta, _: linear_error(theta, outer_data))
    return QuadraticCase(f"decay_{kind}", problem, start, log_decays)


def errors(kind: str, seed: int) -> tuple[Tensor, Tensor, float, float, float]:
    """Decays and weights learned; the test error before, after, and of who knows the input."""
    case = decayed_regression(kind, seed)
    outer, inner = learned(case, num_steps=80, lr=0.3)
    x, y = test_data = regression_data(20_000, seed=3 * seed + 2)
    x_inner, y_inner = regression_data(40, seed=3 * seed)
    oracle = (x[:, :1] @ torch.linalg.lstsq(x_inner[:, :1], y_inner).solution - y).square().mean()
    before = linear_error(case.solve(case.outer_params), test_data)
    after = linear_error(inner, test_data)
    decays = torch.cat([value.reshape(-1) for value in outer.values()]).exp()
    weights = torch.cat(list(inner.values()), dim=1)[0]
    return decays, weights, before.item(), after.item(), oracle.item()


@pytest.mark.parametrize(("kind", "switched_off"), [("tensor", 1.0), ("column", 0.8)])
def test_a_decay_of_each_input_group_switches_the_irrelevant_ones_off(
    kind: str, switched_off: float
) -> None:
    decays, weights, before, after, oracle = errors(kind, seed=0)
    # Single inputs that happen to help on the held-out data, too, keep a small weight.
    assert (decays[1:] >= 1e3 * INITIAL).double().mean() >= switched_off
    assert weights[1:].square().mean().sqrt() <= 0.05
    assert decays[0] <= 10 * INITIAL
    assert weights[0] >= 0.9 * TRUE_WEIGHT
    assert before >= 1.5 * oracle
    assert after <= 1.05 * oracle


def test_the_hypergradient_of_a_decay_is_its_formula() -> None:
    """`-exp(a_g) theta_g^T [H^-1 d_theta L_out]_g`."""
    case = decayed_regression("tensor", seed=0)
    inner, outer = case.solve(case.outer_params), case.outer_params
    flat = ravel(inner)
    _, hessian = inner_derivatives(case.problem, flat, inner, outer)
    outer_grad = torch.func.grad(
        lambda theta: case.problem.outer_objective(unravel(theta, inner), outer)
    )(flat)
    solution = unravel(torch.linalg.solve(hessian, outer_grad), inner)
    expected = [
        -outer[f"log_decay.{name}"].exp() * (value * solution[name]).sum()
        for name, value in inner.items()
    ]
    result = hypergradient(case.problem, inner, outer, make_solver("cg"))
    assert relative_error(result.grad, torch.stack(expected)) <= 1e-6
