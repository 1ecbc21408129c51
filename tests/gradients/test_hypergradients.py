"""Every solver on every case, against explicit Jacobians and against re-solving.

Nothing here leans on the package for its expected values: see `cases.py` and `outer_cases.py`.
"""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import hypergradient, make_solver
from tests.gradients.cases import (
    CASES,
    CLOSED_FORM_CASES,
    Case,
    Params,
    central_differences,
    dense_reference,
    inner_derivatives,
    ravel,
    relative_error,
)
from tests.gradients.outer_cases import OUTER_CASES


class Solved(NamedTuple):
    case: Case
    inner_params: Params
    dense: Tensor
    differences: Tensor
    eigenvalues: Tensor


def solved(case: Case) -> Solved:
    inner = case.solve(case.outer_params)
    grad, hessian = inner_derivatives(case.problem, ravel(inner), inner, case.outer_params)
    assert grad.norm() <= 1e-12
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[0] > 0
    return Solved(
        case,
        inner,
        dense_reference(case.problem, inner, case.outer_params),
        central_differences(case),
        eigenvalues,
    )


@pytest.fixture(scope="module", params=CASES + OUTER_CASES, ids=lambda case: case.name)
def point(request) -> Solved:
    return solved(request.param)


def test_the_two_references_agree(point):
    assert (point.dense - point.differences).norm() <= 1e-6 * point.dense.norm()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dense", {}),
        ("cg", {}),
        ("nystrom", {"rank": 100}),
        ("neumann", {"num_terms": 400}),
        ("closed_form", {}),
    ],
)
def test_exact_solvers(point, name, settings):
    if name == "closed_form" and point.case not in CLOSED_FORM_CASES:
        pytest.skip("no closed form is known")
    if name == "neumann" and point.eigenvalues[0] < 1e-2:
        pytest.skip("converges too slowly to be called exact")
    solver = make_solver(name, **settings)
    result = hypergradient(point.case.problem, point.inner_params, point.case.outer_params, solver)
    assert relative_error(result.grad, point.dense) <= 1e-6
    assert relative_error(result.grad, point.differences) <= 1e-4
    assert result.stationarity <= 1e-12
    assert result.residual <= 1e-6
    assert not result.negative_curvature


@pytest.mark.parametrize("name", ["neumann", "unrolled"])
def test_the_error_of_truncated_solvers_falls(point, name):
    def error(length: int) -> float:
        if name == "neumann":
            solver = make_solver("neumann", num_terms=length)
        else:
            lr = 1 / point.eigenvalues[-1].item()
            solver = make_solver("unrolled", num_steps=length, lr=lr, momentum=0.9)
        result = hypergradient(
            point.case.problem, point.inner_params, point.case.outer_params, solver
        )
        return relative_error(result.grad, point.dense)

    short, middle, long = error(10), error(50), error(200)
    assert short > middle > long
    assert long <= (0.4 if name == "neumann" else 1e-2)


@pytest.mark.parametrize(
    ("name", "settings"), [("dense", {}), ("cg", {}), ("nystrom", {"rank": 99})]
)
def test_a_ridge_is_added_to_the_hessian_and_nowhere_else(point, name, settings):
    problem, outer = point.case.problem, point.case.outer_params
    shifted = dense_reference(problem, point.inner_params, outer, ridge=0.3)
    solver = make_solver(name, ridge=0.3, **settings)
    result = hypergradient(problem, point.inner_params, outer, solver)
    assert relative_error(result.grad, shifted) <= 1e-8
    assert relative_error(result.grad, point.dense) > 1e-3


def test_plain_unrolling_is_a_neumann_series(point):
    lr = 0.5 / point.eigenvalues[-1].item()
    arguments = point.case.problem, point.inner_params, point.case.outer_params
    unrolled = hypergradient(*arguments, make_solver("unrolled", num_steps=20, lr=lr, momentum=0.0))
    neumann = hypergradient(*arguments, make_solver("neumann", num_terms=20, scale=lr))
    assert relative_error(unrolled.grad, ravel(neumann.grad)) <= 1e-10
