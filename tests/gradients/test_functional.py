"""The functional solver: against the parameters' hypergradient and against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import (
    BilevelProblem,
    FunctionalProblem,
    hypergradient,
    make_solver,
)
from mbrl_bilevel.errors import ConfigError, MBRLError
from tests.gradients.cases import Case, Params, central_differences, ravel, relative_error

TEMPERATURE = 1.3
NUM_INPUTS, DIM = 4, 2


def diagonal_inner_loss(z: Tensor, phi: Params, x: Tensor, y: Tensor) -> Tensor:
    """Analytic inner loss for `z = (mean, log_var) [N, D, 2]`, one value a dimension."""
    mean, log_var = z.unbind(-1)
    u = phi["log_u"][x].exp()
    expected_reward = -u * ((mean - y).square() + log_var.exp())
    return -expected_reward - TEMPERATURE * 0.5 * (math.log(2 * math.pi * math.e) + log_var)


def diagonal_expected_loss(z: Tensor, phi: Params, x: Tensor, solution: Tensor) -> Tensor:
    """The same, averaged over y given x: its mean is the solution's."""
    return diagonal_inner_loss(z, phi, x, solution[..., 0])


def diagonal_nll(z: Tensor, _phi: Params, _x: Tensor, y: Tensor) -> Tensor:
    mean, log_var = z.unbind(-1)
    errors = (mean - y).square() * (-log_var).exp()
    return 0.5 * (math.log(2 * math.pi) + log_var + errors)


def table(theta: Params, x: Tensor) -> Tensor:
    """A model that moves its outputs at every x freely: `[N, D, 2]`."""
    return torch.stack([theta["mean"][x], theta["log_var"][x]], dim=-1)


def tabular_case() -> Case:
    """Discrete inputs, several targets each, and a state-dependent diagonal reward."""
    g = torch.Generator().manual_seed(0)
    x = torch.arange(NUM_INPUTS).repeat(5)
    x_val = torch.randint(NUM_INPUTS, (30,), generator=g)

    def draw(inputs: Tensor) -> Tensor:
        noise = torch.randn(len(inputs), DIM, generator=g, dtype=torch.float64)
        return inputs[:, None] + (0.5 + inputs[:, None]) * noise

    problem = FunctionalProblem(
        table,
        diagonal_inner_loss,
        diagonal_nll,
        diagonal_expected_loss,
        (x, draw(x)),
        (x_val, draw(x_val)),
    )
    zeros = torch.zeros(NUM_INPUTS, DIM, dtype=torch.float64)
    log_u = torch.randn(NUM_INPUTS, DIM, generator=g, dtype=torch.float64)
    return Case("tabular", problem, {"mean": zeros, "log_var": zeros}, {"log_u": log_u})


def test_it_equals_the_parameters_hypergradient_of_a_flexible_model():
    case = tabular_case()
    inner = case.solve(case.outer_params)
    functional = hypergradient(case.problem, inner, case.outer_params, make_solver("functional"))
    dense = hypergradient(case.problem, inner, case.outer_params, make_solver("dense"))
    assert relative_error(functional.grad, ravel(dense.grad)) <= 1e-10
    assert relative_error(functional.grad, central_differences(case)) <= 1e-4
    assert functional.stationarity == pytest.approx(dense.stationarity, abs=1e-12)
    assert functional.outer_loss == pytest.approx(dense.outer_loss)
    assert functional.residual <= 1e-12
    assert functional.num_hvps == 2
    assert not functional.negative_curvature


def test_more_leading_dimensions_only_make_the_solves_smaller():
    case = tabular_case()
    inner = case.solve(case.outer_params)
    problem = case.problem
    assert isinstance(problem, FunctionalProblem)

    def joint(loss):
        def summed(z: Tensor, phi: Params, x: Tensor, last: Tensor) -> Tensor:
            last = last.unflatten(-1, (DIM, 2)) if last.shape == z.shape else last
            return loss(z.unflatten(-1, (DIM, 2)), phi, x, last).mean(-1)

        return summed

    flat = FunctionalProblem(
        lambda theta, x: table(theta, x).flatten(-2),
        joint(diagonal_inner_loss),
        joint(diagonal_nll),
        joint(diagonal_expected_loss),
        problem.inner_data,
        problem.outer_data,
    )
    small = hypergradient(problem, inner, case.outer_params, make_solver("functional"))
    large = hypergradient(flat, inner, case.outer_params, make_solver("functional"))
    assert large.num_hvps == 2 * DIM
    assert relative_error(large.grad, ravel(small.grad)) <= 1e-12


# --- theory, section 2: dNLL/du = s^2 / lambda - 1 / (2 u), at lambda = 1, s^2 = 1.5625


def scalar_problem(expected_inner_loss) -> FunctionalProblem:
    """One output dimension, no input: held-out residuals of exactly +-1.25."""
    y = 6.0 + 1.25 * torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    data = torch.zeros(4, 1, dtype=torch.float64), y

    def inner_loss(z: Tensor, phi: Params, _x: Tensor, target: Tensor) -> Tensor:
        mean, log_var = z.unbind(-1)
        u = phi["u"]
        return u * ((mean - target).square() + log_var.exp()) - 0.5 * log_var

    def solution(phi: Params) -> Params:
        return {"mean": torch.tensor(6.0).double(), "log_var": -(2 * phi["u"]).log()}

    return FunctionalProblem(
        lambda theta, x: torch.stack([theta["mean"], theta["log_var"]]).expand(len(x), 2),
        inner_loss,
        diagonal_nll,
        expected_inner_loss or (lambda z, phi, x, s: inner_loss(z, phi, x, s[..., 0])),
        data,
        data,
        solution,
    )


VALUES = [(1.0, 1.0625), (0.6, 1.5625 - 1 / 1.2), (0.1, -3.4375)]


@pytest.mark.parametrize(("u", "expected"), VALUES)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("functional", {}),
        ("dense", {}),
        ("cg", {}),
        ("nystrom", {"rank": 2}),
        ("neumann", {"num_terms": 400}),
        ("unrolled", {"num_steps": 200, "lr": 0.3, "momentum": 0.5}),
        ("closed_form", {}),
    ],
)
def test_every_solver_finds_the_values_of_the_theory(name, settings, u, expected):
    problem = scalar_problem(None)
    phi = {"u": torch.tensor(u, dtype=torch.float64)}
    assert problem.inner_solution is not None
    theta = problem.inner_solution(phi)
    result = hypergradient(problem, theta, phi, make_solver(name, **settings))
    assert result.grad["u"].item() == pytest.approx(expected, rel=1e-6)
    assert result.stationarity <= 1e-12


@pytest.mark.parametrize("u", [1.0, 0.6, 0.1])
def test_reusing_the_held_out_target_would_be_biased(u):
    """Why `expected_inner_loss` takes no y: the same y in both factors flips the sign of s^2."""
    problem = scalar_problem(None)
    targets = problem.outer_data[1]

    def naive(z: Tensor, phi: Params, x: Tensor, _solution: Tensor) -> Tensor:
        return problem.inner_loss(z, phi, x, targets)

    phi = {"u": torch.tensor(u, dtype=torch.float64)}
    biased = scalar_problem(naive)
    assert biased.inner_solution is not None
    result = hypergradient(biased, biased.inner_solution(phi), phi, make_solver("functional"))
    assert result.grad["u"].item() == pytest.approx(-1.5625 - 1 / (2 * u))


def test_a_full_covariance_head_under_a_full_reward():
    """`z = (mean, Cholesky factor)`, against the NLL at `Sigma* = (lambda / 2) U^-1`."""
    dim = 3
    g = torch.Generator().manual_seed(1)
    y = torch.randn(50, dim, generator=g, dtype=torch.float64)
    lower = torch.tril_indices(dim, dim)
    root = torch.randn(dim, dim, generator=g, dtype=torch.float64)
    phi = {"root": root + 2 * torch.eye(dim, dtype=torch.float64)}

    def unpack(z: Tensor) -> tuple[Tensor, Tensor]:
        scale_tril = z.new_zeros(*z.shape[:-1], dim, dim)
        scale_tril[..., lower[0], lower[1]] = z[..., dim:]
        return z[..., :dim], scale_tril

    def inner_loss(z: Tensor, phi: Params, _x: Tensor, target: Tensor) -> Tensor:
        mean, scale_tril = unpack(z)
        u = phi["root"] @ phi["root"].mT
        errors = mean - target
        expected_reward = -torch.einsum("...i,ij,...j->...", errors, u, errors) - (
            u * (scale_tril @ scale_tril.mT)
        ).sum((-2, -1))
        log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -expected_reward - TEMPERATURE * log_det

    def nll(z: Tensor, _phi: Params, _x: Tensor, target: Tensor) -> Tensor:
        mean, scale_tril = unpack(z)
        return -torch.distributions.MultivariateNormal(
            mean, scale_tril=scale_tril, validate_args=False
        ).log_prob(target)

    def solution(phi: Params) -> Params:
        sigma = TEMPERATURE / 2 * torch.linalg.inv(phi["root"] @ phi["root"].mT)
        scale_tril = torch.linalg.cholesky(sigma)
        return {"z": torch.cat([y.mean(0), scale_tril[lower[0], lower[1]]])}

    problem = FunctionalProblem(
        lambda theta, x: theta["z"].expand(len(x), -1),
        inner_loss,
        nll,
        lambda z, phi, x, s: inner_loss(z, phi, x, s[..., :dim]),
        (y, y),
        (y, y),
        solution,
    )
    exact = hypergradient(problem, solution(phi), phi, make_solver("closed_form"))
    functional = hypergradient(problem, solution(phi), phi, make_solver("functional"))
    assert exact.stationarity <= 1e-12
    assert relative_error(functional.grad, ravel(exact.grad)) <= 1e-10
    assert functional.num_hvps == 9


def test_a_categorical_head_under_a_one_hot_reward():
    """Theory, section 3. Adding to all logits changes nothing: the Hessians are singular."""
    counts = torch.tensor([[4, 3, 1], [1, 1, 6], [3, 2, 3]])
    q = counts.double() / counts.sum(1, keepdim=True)
    x = torch.arange(3).repeat_interleave(8)
    y = torch.arange(3).repeat(3).repeat_interleave(counts.flatten())
    x_val = torch.tensor([0, 0, 1, 2, 2])
    y_val = torch.tensor([0, 1, 2, 0, 1])
    phi = {"log_beta": torch.tensor(-0.3, dtype=torch.float64)}

    def regularised(z: Tensor, expected_reward: Tensor) -> Tensor:
        log_prob = z.log_softmax(-1)
        return -expected_reward + TEMPERATURE * (log_prob.exp() * log_prob).sum(-1)

    def inner_loss(z: Tensor, phi: Params, _x: Tensor, label: Tensor) -> Tensor:
        hit = z.softmax(-1).gather(-1, label[:, None]).squeeze(-1)
        return regularised(z, -2 * phi["log_beta"].exp() * (1 - hit))

    def expected_inner_loss(z: Tensor, phi: Params, _x: Tensor, solution: Tensor) -> Tensor:
        shares = TEMPERATURE / (2 * phi["log_beta"].detach().exp()) * solution.log_softmax(-1)
        hit = (shares * z.softmax(-1)).sum(-1)
        return regularised(z, -2 * phi["log_beta"].exp() * (1 - hit))

    def nll(z: Tensor, _phi: Params, _x: Tensor, label: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(z, label, reduction="none")

    def solution(phi: Params) -> Params:
        return {"logits": 2 * phi["log_beta"].exp() * q / TEMPERATURE}

    problem = FunctionalProblem(
        lambda theta, inputs: theta["logits"][inputs],
        inner_loss,
        nll,
        expected_inner_loss,
        (x, y),
        (x_val, y_val),
        solution,
    )
    exact = hypergradient(problem, solution(phi), phi, make_solver("closed_form"))
    assert exact.stationarity <= 1e-12
    for name in ("functional", "dense", "cg"):
        found = hypergradient(problem, solution(phi), phi, make_solver(name))
        assert relative_error(found.grad, ravel(exact.grad)) <= 1e-9
        assert found.residual <= 1e-9
        assert not found.negative_curvature


def solve_with(expected_inner_loss, **settings):
    phi = {"u": torch.tensor(0.5, dtype=torch.float64)}
    problem = scalar_problem(expected_inner_loss)
    assert problem.inner_solution is not None
    solver = make_solver("functional", **settings)
    return hypergradient(problem, problem.inner_solution(phi), phi, solver)


def test_a_sample_that_is_not_convex_is_flagged(caplog):
    result = solve_with(lambda z, phi, _x, _s: -phi["u"] * z.square().sum(-1))
    assert result.negative_curvature
    assert "'functional' met non-positive curvature" in caplog.text


def test_a_ridge_is_added_to_every_sample():
    assert solve_with(None, ridge=1e6).grad["u"].abs() < 1e-3
    assert solve_with(None, ridge=1e-9).grad["u"].item() == pytest.approx(1.5625 - 1)


def test_stationarity_can_be_left_out():
    result = solve_with(None, compute_stationarity=False)
    assert math.isnan(result.stationarity)
    assert result.grad["u"].item() == pytest.approx(1.5625 - 1)


def test_no_derivative_of_the_model_is_needed():
    case = tabular_case()
    assert isinstance(case.problem, FunctionalProblem)
    modes = []

    def model_fn(theta: Params, x: Tensor) -> Tensor:
        modes.append(torch.is_grad_enabled())
        return table(theta, x)

    case.problem.model_fn = model_fn
    solver = make_solver("functional", compute_stationarity=False)
    hypergradient(case.problem, case.inner_start, case.outer_params, solver)
    assert modes == [False]


def test_it_refuses_a_problem_without_outputs():
    problem = BilevelProblem(lambda t, p: t["a"] * p["b"], lambda t, _p: t["a"])
    one = torch.ones(())
    with pytest.raises(ConfigError, match="needs a FunctionalProblem"):
        hypergradient(problem, {"a": one}, {"b": one}, make_solver("functional"))


def test_it_refuses_an_expected_loss_with_wrong_second_derivatives():
    def surrogate(z: Tensor, phi: Params, _x: Tensor, _s: Tensor) -> Tensor:
        return phi["u"] * z.square().sum(-1)

    surrogate.twice_differentiable = False  # type: ignore[attr-defined]
    surrogate.reason = "its samples are detached"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"'functional'.*its samples are detached.*'analytic'"):
        solve_with(surrogate)


def test_the_parameter_objective_passes_on_that_its_second_derivatives_are_wrong():
    case = tabular_case()
    problem = case.problem
    assert isinstance(problem, FunctionalProblem)

    def surrogate(z: Tensor, phi: Params, x: Tensor, y: Tensor) -> Tensor:
        return diagonal_inner_loss(z, phi, x, y)

    surrogate.twice_differentiable = False  # type: ignore[attr-defined]
    marked = FunctionalProblem(
        table,
        surrogate,
        diagonal_nll,
        diagonal_expected_loss,
        problem.inner_data,
        problem.outer_data,
    )
    with pytest.raises(ConfigError, match="'cg' differentiates the inner gradient"):
        hypergradient(marked, case.inner_start, case.outer_params, make_solver("cg"))
    functional = hypergradient(
        marked, case.inner_start, case.outer_params, make_solver("functional")
    )
    assert functional.residual <= 1e-12


@pytest.mark.parametrize("which", ["inner_loss", "outer_loss", "expected_inner_loss"])
def test_a_loss_that_is_not_one_value_a_sample(which):
    losses = {
        "inner_loss": diagonal_inner_loss,
        "outer_loss": diagonal_nll,
        "expected_inner_loss": diagonal_expected_loss,
    }
    good = losses[which]
    losses[which] = lambda z, phi, x, last: good(z, phi, x, last).sum()
    case = tabular_case()
    problem = case.problem
    assert isinstance(problem, FunctionalProblem)
    broken = FunctionalProblem(table, *losses.values(), problem.inner_data, problem.outer_data)
    with pytest.raises(ValueError, match=rf"{which} returned shape \[\] for outputs of shape"):
        hypergradient(broken, case.inner_start, case.outer_params, make_solver("functional"))


def test_a_target_that_is_not_finite():
    case = tabular_case()
    problem = case.problem
    assert isinstance(problem, FunctionalProblem)
    problem.outer_data[1][3, 0] = math.nan
    for name in ("functional", "cg"):
        with pytest.raises(MBRLError, match=r"outer_(loss|objective).* nan; it must be finite"):
            hypergradient(problem, case.inner_start, case.outer_params, make_solver(name))


@pytest.mark.parametrize(
    ("inner", "outer", "message"),
    [
        ((0, 0), (3, 3), "inner_data is empty"),
        ((3, 3), (0, 0), "outer_data is empty"),
        ((3, 3), (3, 2), "outer_data holds 3 inputs but 2 targets"),
    ],
)
def test_impossible_data(inner, outer, message):
    def data(sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return torch.zeros(sizes[0], 1), torch.zeros(sizes[1], 1)

    with pytest.raises(ValueError, match=message):
        FunctionalProblem(
            table,
            diagonal_inner_loss,
            diagonal_nll,
            diagonal_expected_loss,
            data(inner),
            data(outer),
        )
