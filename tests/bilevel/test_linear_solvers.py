"""Linear solvers against dense algebra, on matrices known entry by entry."""

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import LinearSolution, LinearSolver, make_solver
from mbrl_bilevel.errors import ConfigError, MBRLError

N = 12


def randn(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def with_spectrum(eigenvalues: Tensor) -> Tensor:
    """A symmetric matrix with these eigenvalues in a random basis."""
    basis = torch.linalg.qr(randn(7, len(eigenvalues), len(eigenvalues))).Q
    return basis @ torch.diag(eigenvalues) @ basis.mT


def spd(condition_number: float) -> Tensor:
    return with_spectrum(torch.logspace(0, -math.log10(condition_number), N, dtype=torch.float64))


def solve(matrix: Tensor, b: Tensor, name: str, **settings: object) -> LinearSolution:
    solver = make_solver(name, **settings)
    assert isinstance(solver, LinearSolver)
    return solver.solve(lambda vector: matrix @ vector, b)


EXACT = [
    ("dense", {}),
    ("cg", {"max_steps": 200}),
    ("nystrom", {"rank": N}),
]


@pytest.mark.parametrize(("name", "settings"), EXACT)
@pytest.mark.parametrize("condition_number", [1.0, 1e2, 1e6])
def test_exact_solvers_match_a_dense_solve(name, settings, condition_number):
    matrix, b = spd(condition_number), randn(0, N)
    solution = solve(matrix, b, name, **settings)
    expected = torch.linalg.solve(matrix, b)
    assert (solution.v - expected).norm() <= 1e-7 * expected.norm()
    assert not solution.negative_curvature
    assert solution.converged


@pytest.mark.parametrize(("name", "settings"), EXACT)
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_ridge_makes_a_singular_system_solvable(name, settings, ridge):
    matrix = with_spectrum(torch.cat([torch.ones(4), torch.zeros(N - 4)]).double())
    b = randn(1, N)
    solution = solve(matrix, b, name, ridge=ridge, **settings)
    expected = torch.linalg.solve(matrix + ridge * torch.eye(N, dtype=torch.float64), b)
    assert (solution.v - expected).norm() <= 1e-8 * expected.norm()
    assert not solution.negative_curvature
    assert solution.residual <= 1e-8


@pytest.mark.parametrize(("name", "settings"), EXACT)
def test_a_singular_but_consistent_system_gets_the_solution_of_least_norm(name, settings):
    matrix = with_spectrum(torch.cat([torch.arange(1.0, 5.0), torch.zeros(N - 4)]).double())
    b = matrix @ randn(2, N)
    solution = solve(matrix, b, name, **settings)
    expected = torch.linalg.pinv(matrix, hermitian=True) @ b
    assert (solution.v - expected).norm() <= 1e-8 * expected.norm()
    assert solution.converged


@pytest.mark.parametrize(("name", "settings"), EXACT)
def test_an_inconsistent_system_is_not_called_converged(name, settings):
    matrix = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    solution = solve(matrix, torch.ones(2, dtype=torch.float64), name, **settings)
    assert solution.residual >= 0.5
    assert not solution.converged


@pytest.mark.parametrize(
    ("name", "settings"), [*EXACT, ("neumann", {"scale": 0.1}), ("neumann", {})]
)
def test_an_indefinite_system_is_flagged(name, settings):
    matrix = with_spectrum(torch.linspace(-1, 2, N, dtype=torch.float64))
    assert solve(matrix, randn(3, N), name, **settings).negative_curvature


@pytest.mark.parametrize(
    ("name", "settings"), [*EXACT, ("neumann", {"num_terms": 3}), ("nystrom", {"rank": 2})]
)
def test_a_zero_right_hand_side_costs_nothing(name, settings):
    solution = solve(spd(10.0), torch.zeros(N, dtype=torch.float64), name, **settings)
    assert torch.equal(solution.v, torch.zeros(N, dtype=torch.float64))
    assert solution.residual == 0
    assert solution.num_matvecs == 0
    assert solution.converged


@pytest.mark.parametrize(
    ("name", "settings"),
    [("cg", {"max_steps": 3}), ("neumann", {"num_terms": 5}), ("nystrom", {"rank": 4})],
)
def test_the_residual_is_the_true_one(name, settings):
    matrix, b = spd(100.0), randn(4, N)
    solution = solve(matrix, b, name, **settings)
    expected = (matrix @ solution.v - b).norm() / b.norm()
    assert solution.residual == pytest.approx(expected.item(), rel=1e-10)
    assert solution.residual > 1e-3
    assert not solution.converged


def test_the_residual_does_not_trust_the_solver():
    class Lazy(LinearSolver):
        name: ClassVar[str] = "lazy"

        def _solve(self, system, b):
            del system
            return torch.zeros_like(b), False

    solution = Lazy().solve(lambda vector: 2 * vector, randn(5, N))
    assert solution.residual == pytest.approx(1.0)
    assert solution.num_matvecs == 1
    assert not solution.converged


@pytest.mark.parametrize("name", ["dense", "cg", "neumann", "nystrom"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_solutions_scale_with_the_right_hand_side(name, size):
    matrix, b = spd(10.0).float(), randn(6, N).float()
    small = solve(matrix, size * b, name)
    plain = solve(matrix, b, name)
    assert small.v.dtype == torch.float32
    torch.testing.assert_close(small.v / size, plain.v, rtol=1e-4, atol=1e-5)
    assert small.residual == pytest.approx(plain.residual, rel=0.1, abs=1e-5)


class TestCG:
    @pytest.mark.parametrize("steps", range(1, N + 1))
    def test_each_iterate_is_the_best_of_its_krylov_space(self, steps):
        matrix, b = spd(50.0), randn(8, N)
        powers = [b / b.norm()]
        for _ in range(steps - 1):
            powers.append((matrix @ powers[-1]) / (matrix @ powers[-1]).norm())
        basis = torch.linalg.qr(torch.stack(powers, dim=1)).Q
        best = basis @ torch.linalg.solve(basis.mT @ matrix @ basis, basis.mT @ b)
        solution = solve(matrix, b, "cg", max_steps=steps, tol=1e-13)
        assert (solution.v - best).norm() <= 1e-7 * best.norm()

    def test_n_steps_are_exact(self):
        matrix, b = spd(10.0), randn(9, N)
        solution = solve(matrix, b, "cg", max_steps=N)
        assert solution.residual <= 1e-9
        assert solution.num_matvecs <= N + 1

    @pytest.mark.parametrize("c", [1e-3, 1.0, 250.0])
    def test_a_multiple_of_the_identity_takes_one_step(self, c):
        b = randn(10, N)
        solution = solve(c * torch.eye(N, dtype=torch.float64), b, "cg")
        torch.testing.assert_close(solution.v, b / c)
        assert solution.num_matvecs == 2  # the step, and the residual's
        assert solution.converged

    def test_an_eigenvector_takes_one_step(self):
        matrix = spd(1e4)
        eigenvector = torch.linalg.eigh(matrix).eigenvectors[:, 0]
        solution = solve(matrix, eigenvector, "cg", tol=1e-8)
        assert solution.num_matvecs == 2
        assert solution.converged

    def test_three_distinct_eigenvalues_take_three_steps(self):
        matrix = with_spectrum(torch.tensor([1.0, 2.0, 5.0] * (N // 3), dtype=torch.float64))
        assert solve(matrix, randn(11, N), "cg").num_matvecs == 4

    def test_a_loose_tolerance_stops_earlier(self):
        matrix, b = spd(1e4), randn(12, N)
        loose = solve(matrix, b, "cg", tol=0.1)
        assert loose.num_matvecs < solve(matrix, b, "cg", tol=1e-6).num_matvecs
        assert loose.residual <= 0.1
        assert loose.converged

    def test_negative_curvature_returns_the_last_good_iterate(self):
        matrix = torch.diag(torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64))
        b = torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
        solution = solve(matrix, b, "cg")
        last_good = solve(matrix, b, "cg", max_steps=solution.num_matvecs - 2)
        assert solution.negative_curvature
        assert not solution.converged
        assert not last_good.negative_curvature
        assert last_good.num_matvecs == solution.num_matvecs - 1
        assert torch.equal(solution.v, last_good.v)

    def test_negative_curvature_at_once_returns_zero(self):
        solution = solve(-torch.eye(3, dtype=torch.float64), randn(13, 3), "cg")
        assert solution.negative_curvature
        assert torch.equal(solution.v, torch.zeros(3, dtype=torch.float64))
        assert solution.residual == pytest.approx(1)

    def test_zero_curvature_of_an_indefinite_matrix_is_flagged(self):
        matrix = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
        assert solve(matrix, torch.ones(2, dtype=torch.float64), "cg").negative_curvature

    def test_a_large_enough_ridge_removes_negative_curvature(self):
        matrix = with_spectrum(torch.linspace(-1, 2, N, dtype=torch.float64))
        solution = solve(matrix, randn(14, N), "cg", ridge=1.5)
        assert not solution.negative_curvature
        assert solution.converged


class TestNeumann:
    def test_it_is_the_truncated_series(self):
        matrix, b = spd(20.0), randn(15, N)
        solution = solve(matrix, b, "neumann", num_terms=7, scale=0.8)
        step = torch.eye(N, dtype=torch.float64) - 0.8 * matrix
        series = 0.8 * sum(torch.linalg.matrix_power(step, j) for j in range(7))
        torch.testing.assert_close(solution.v, series @ b)
        assert solution.num_matvecs == 7
        remainder = torch.linalg.matrix_power(step, 7) @ b
        assert solution.residual == pytest.approx((remainder.norm() / b.norm()).item())

    def test_the_error_falls_with_the_terms(self):
        matrix, b = spd(20.0), randn(16, N)
        errors = [solve(matrix, b, "neumann", num_terms=k).residual for k in (10, 100, 1000)]
        assert errors[0] > 10 * errors[1] > 100 * errors[2]
        assert errors[2] <= 1e-12

    @pytest.mark.parametrize("largest", [1e-4, 1.0, 1e4])
    def test_the_estimated_scale_converges_whatever_the_matrix_size(self, largest):
        solution = solve(largest * spd(5.0), randn(17, N), "neumann", num_terms=200)
        assert solution.residual <= 1e-10
        assert 200 < solution.num_matvecs <= 220  # power iteration is counted

    def test_a_scale_too_large_is_visible(self):
        solution = solve(spd(5.0), randn(18, N), "neumann", num_terms=20, scale=5.0)
        assert solution.residual > 10
        assert not solution.converged
        with pytest.raises(MBRLError, match=r"'neumann'.*finite"):
            solve(spd(5.0), randn(18, N), "neumann", num_terms=5000, scale=5.0)

    def test_a_zero_matrix_is_flagged(self):
        solution = solve(torch.zeros(N, N, dtype=torch.float64), randn(19, N), "neumann")
        assert solution.negative_curvature
        assert solution.residual == pytest.approx(1)


class TestNystrom:
    def test_a_low_rank_matrix_needs_no_more_than_its_rank(self):
        matrix = with_spectrum(
            torch.cat([torch.tensor([9.0, 4.0, 1.0]), torch.zeros(N - 3)]).double()
        )
        solution = solve(matrix, randn(20, N), "nystrom", rank=3, ridge=0.1)
        assert solution.residual <= 1e-10
        assert solution.num_matvecs == 4

    def test_the_error_falls_with_the_rank(self):
        matrix = with_spectrum(2.0 ** -torch.arange(N, dtype=torch.float64))
        b = randn(21, N)
        errors = [solve(matrix, b, "nystrom", rank=r, ridge=0.05).residual for r in (2, 6, N)]
        assert errors[0] > errors[1] > errors[2]
        assert errors[2] <= 1e-10

    def test_without_a_ridge_a_low_rank_solution_stays_bounded(self):
        matrix, b = spd(100.0), randn(22, N)
        assert solve(matrix, b, "nystrom", rank=4).v.norm() <= 1.01 * 100 * b.norm()

    def test_the_sketch_comes_from_the_seed_alone(self):
        matrix, b = spd(100.0), randn(23, N)
        state = torch.get_rng_state()
        first = solve(matrix, b, "nystrom", rank=3, ridge=0.1)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(first.v, solve(matrix, b, "nystrom", rank=3, ridge=0.1).v)
        assert not torch.equal(first.v, solve(matrix, b, "nystrom", rank=3, ridge=0.1, seed=1).v)

    def test_a_rank_beyond_the_size_is_the_size(self):
        assert solve(spd(10.0), randn(24, N), "nystrom", rank=10 * N).num_matvecs == N + 1

    def test_single_precision(self):
        matrix, b = spd(100.0).float(), randn(25, N).float()
        solution = solve(matrix, b, "nystrom", rank=N, ridge=1e-3)
        assert solution.v.dtype == torch.float32
        assert solution.residual <= 1e-3


class TestBadInput:
    def test_a_right_hand_side_that_is_no_vector(self):
        with pytest.raises(ValueError, match=r"shape \[3, 1\].*\[P\]"):
            solve(torch.eye(3), torch.ones(3, 1), "cg")

    def test_a_right_hand_side_that_is_not_finite(self):
        with pytest.raises(MBRLError, match="right-hand side is not finite"):
            solve(torch.eye(2), torch.tensor([1.0, math.nan]), "dense")

    def test_a_product_of_another_shape(self):
        with pytest.raises(ValueError, match=r"returned shape \[2\] .* \[3\]"):
            solve(torch.ones(2, 3), torch.ones(3), "cg")

    def test_a_product_that_is_not_finite(self):
        with pytest.raises(MBRLError, match="product 1 is not finite"):
            solve(torch.full((2, 2), math.inf), torch.ones(2), "cg")

    def test_a_dense_hessian_too_large_to_form(self):
        with pytest.raises(ConfigError, match=r"20000 x 20000.*'cg'"):
            make_solver("dense").solve(lambda vector: vector, torch.ones(20_000))
