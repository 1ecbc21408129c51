"""Every solver on every reward, head and estimator that go together: see `policy_gradient_cases`.

The expected values come from explicit Jacobians, and from re-solving the inner problem.
"""

import functools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import hypergradient, make_solver
from tests.gradients.cases import Params, dense_reference, inner_derivatives, ravel, relative_error
from tests.gradients.policy_gradient_cases import (
    ESTIMATORS,
    Combination,
    PolicyGradientCase,
    combinations,
    directional_differences,
    make_case,
)

LINEAR = combinations("linear", tuple(ESTIMATORS))
TABULAR = combinations("tabular", ("analytic",))
KNOWN = [combination for combination in (*LINEAR, *TABULAR) if combination.has_closed_form]


class Solved(NamedTuple):
    """A case's solution and the references there; `slopes` are those along `directions`."""

    case: PolicyGradientCase
    inner_params: Params
    dense: Tensor
    directions: Tensor
    slopes: Tensor
    largest: float

    def error_of_slopes(self, grad: Params) -> float:
        found = self.directions @ ravel(grad)
        return float((found - self.slopes).norm() / self.slopes.norm())

    def solve_with(self, name: str, **settings: float):
        solver = make_solver(name, **settings)
        return hypergradient(self.case.problem, self.inner_params, self.case.outer_params, solver)


@functools.cache
def solved(combination: Combination) -> Solved:
    case = make_case(combination)
    inner = case.solve(case.outer_params)
    grad, hessian = inner_derivatives(case.problem, ravel(inner), inner, case.outer_params)
    assert grad.norm() <= 1e-12
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[0] > 1e-3
    dense = dense_reference(case.problem, inner, case.outer_params)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(3, len(dense), generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    slopes = directional_differences(case, directions)
    return Solved(case, inner, dense, directions, slopes, eigenvalues[-1].item())


@pytest.fixture(scope="module", params=LINEAR, ids=str)
def point(request: pytest.FixtureRequest) -> Solved:
    return solved(request.param)


def test_there_is_every_combination() -> None:
    # 5 quadratic rewards with 3 estimators and 2 others with 2, by 2 heads; 3 of classes by 2.
    assert len(LINEAR) == (5 * 3 + 2 * 2) * 2 + 3 * 2
    assert len(TABULAR) == 5 * 2 + 3
    assert all(10 <= len(ravel(solved(c).inner_params)) <= 60 for c in (LINEAR[0], TABULAR[-1]))


def test_the_two_references_agree(point: Solved) -> None:
    slopes = point.directions @ point.dense
    assert (slopes - point.slopes).norm() <= 1e-6 * slopes.norm()
    assert point.dense.norm() > 1e-3


@pytest.mark.parametrize(
    ("name", "settings"), [("dense", {}), ("cg", {}), ("nystrom", {"rank": 60})]
)
def test_exact_solvers(point: Solved, name: str, settings: dict[str, int]) -> None:
    result = point.solve_with(name, **settings)
    assert relative_error(result.grad, point.dense) <= 1e-6
    assert point.error_of_slopes(result.grad) <= 1e-4
    assert result.stationarity <= 1e-12
    assert result.residual <= 1e-9
    assert not result.negative_curvature


def test_the_error_of_neumann_falls_with_its_terms(point: Solved) -> None:
    errors = [
        relative_error(point.solve_with("neumann", num_terms=n).grad, point.dense)
        for n in (5, 20, 80)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] <= 0.1


def test_the_error_of_unrolling_falls_with_its_steps(point: Solved) -> None:
    short, long = (
        point.solve_with("unrolled", num_steps=n, lr=1 / point.largest, momentum=0.5)
        for n in (3, 40)
    )
    assert long.stationarity <= 1e-12  # it stays at the solution where it started
    error = relative_error(long.grad, point.dense)
    assert error <= 0.1
    assert error <= 0.2 * relative_error(short.grad, point.dense)


@pytest.mark.parametrize("combination", KNOWN, ids=lambda c: f"{c.model}-{c}")
def test_closed_form(combination: Combination) -> None:
    known = solved(combination)
    result = known.solve_with("closed_form")
    assert relative_error(result.grad, known.dense) <= 1e-6
    assert known.error_of_slopes(result.grad) <= 1e-4
    assert result.stationarity <= 1e-12


@pytest.mark.parametrize("combination", TABULAR, ids=str)
def test_functional_is_exact_where_the_model_is_flexible(combination: Combination) -> None:
    """At points of the training data with free outputs, what is read off is true."""
    flexible = solved(combination)
    result = flexible.solve_with("functional")
    assert relative_error(result.grad, flexible.dense) <= 1e-6
    assert flexible.error_of_slopes(result.grad) <= 1e-4
    assert result.stationarity <= 1e-12
    assert not result.negative_curvature


@pytest.mark.parametrize(
    ("reward", "head", "is_exact"),
    [
        # The mean does not depend on U, and the constant covariance is within the model's reach.
        ("mahalanobis_full", "full", True),
        ("state_diagonal", "diagonal", False),
        ("one_hot_full", "categorical", False),
    ],
)
def test_functional_is_another_quantity_where_the_model_is_rigid(
    reward: str, head: str, is_exact: bool
) -> None:
    rigid = solved(Combination("linear", reward, head, "analytic"))
    error = relative_error(rigid.solve_with("functional").grad, rigid.dense)
    assert error <= 1e-6 if is_exact else error > 1e-2


@pytest.mark.parametrize("head", ["diagonal", "full"])
def test_functional_with_samples_is_exact_up_to_their_noise(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inner solution is that of frozen samples, the conditional expectation is exact."""

    def error(num_samples: int) -> float:
        few = ESTIMATORS["reparameterised"]()
        few.num_samples = num_samples  # type: ignore[attr-defined]
        monkeypatch.setitem(ESTIMATORS, "reparameterised", lambda: few)
        case = make_case(Combination("tabular", "mahalanobis_diagonal", head, "reparameterised"))
        solver = make_solver("functional")
        functional = hypergradient(case.problem, case.inner_start, case.outer_params, solver)
        dense = dense_reference(case.problem, case.inner_start, case.outer_params)
        return relative_error(functional.grad, dense)

    many = error(1000)
    assert many <= 0.05
    assert many < 0.4 * error(10)
