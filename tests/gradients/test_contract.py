"""What `hypergradient` promises besides the right number."""

import math
import weakref

import pytest
import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import BilevelProblem, hypergradient, make_solver
from mbrl_bilevel.errors import ConfigError, MBRLError
from tests.gradients.cases import Params

SOLVERS = [
    ("dense", {}),
    ("cg", {}),
    ("neumann", {"num_terms": 200, "scale": 0.4}),
    ("nystrom", {"rank": 3}),
    ("unrolled", {"num_steps": 200, "lr": 0.4, "momentum": 0.0}),
    ("closed_form", {}),
]
C = 2.0


def isotropic() -> BilevelProblem:
    """`theta* = phi / C`, with H = C I; dL_out/dphi = 2 (phi / C - 1) / C."""

    def inner(theta: Params, phi: Params) -> Tensor:
        return 0.5 * C * theta["a"].square().sum() - (theta["a"] * phi["b"]).sum()

    def outer(theta: Params, _phi: Params) -> Tensor:
        return (theta["a"] - 1).square().sum()

    return BilevelProblem(inner, outer, lambda phi: {"a": phi["b"] / C})


PHI = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("grad_enabled", [False, True])
@pytest.mark.parametrize(("name", "settings"), SOLVERS)
def test_it_leaves_its_arguments_alone(name, settings, grad_enabled, requires_grad, dtype):
    phi = PHI.to(dtype, copy=True).requires_grad_(requires_grad)
    theta = (PHI / C).to(dtype).requires_grad_(requires_grad)
    before = phi.detach().clone(), theta.detach().clone()
    with torch.set_grad_enabled(grad_enabled):
        result = hypergradient(isotropic(), {"a": theta}, {"b": phi}, make_solver(name, **settings))
    torch.testing.assert_close(result.grad["b"], (2 * (PHI / C - 1) / C).to(dtype))
    assert not result.grad["b"].requires_grad
    assert not result.inner_params["a"].requires_grad
    assert phi.grad is None
    assert theta.grad is None
    assert phi.requires_grad == theta.requires_grad == requires_grad
    assert torch.equal(phi, before[0])
    assert torch.equal(theta, before[1])


@pytest.mark.parametrize(
    ("name", "settings", "num_hvps"),
    [
        ("cg", {}, 2),
        ("dense", {}, 4),
        ("nystrom", {"rank": 2, "ridge": 0.1}, 3),
        ("neumann", {"num_terms": 5, "scale": 0.1}, 5),
        ("unrolled", {"num_steps": 7}, 7),
        ("closed_form", {}, 0),
    ],
)
def test_hessian_vector_products_are_counted(name, settings, num_hvps):
    solver = make_solver(name, **settings)
    result = hypergradient(isotropic(), {"a": PHI / C}, {"b": PHI}, solver)
    assert result.num_hvps == num_hvps


@pytest.mark.parametrize("name", ["dense", "cg", "neumann", "nystrom"])
def test_the_objectives_are_evaluated_once(name):
    calls = []
    base = isotropic()

    def inner(theta: Params, phi: Params) -> Tensor:
        calls.append("inner")
        return base.inner_objective(theta, phi)

    def outer(theta: Params, phi: Params) -> Tensor:
        calls.append("outer")
        return base.outer_objective(theta, phi)

    hypergradient(BilevelProblem(inner, outer), {"a": PHI}, {"b": PHI}, make_solver(name))
    assert sorted(calls) == ["inner", "outer"]


def test_stationarity_is_the_norm_of_the_inner_gradient_at_the_point():
    theta = torch.tensor([3.0, 1.0, -1.0], dtype=torch.float64)
    expected = (C * theta - PHI).norm().item()
    for name in ("cg", "dense"):
        result = hypergradient(isotropic(), {"a": theta}, {"b": PHI}, make_solver(name))
        assert result.stationarity == pytest.approx(expected)
        assert torch.equal(result.inner_params["a"], theta)


def test_unrolling_ends_where_sgd_does():
    theta = nn.Parameter(torch.tensor([3.0, 1.0, -1.0], dtype=torch.float64))
    settings = {"lr": 0.1, "momentum": 0.7}
    solver = make_solver("unrolled", num_steps=6, **settings)
    result = hypergradient(isotropic(), {"a": theta}, {"b": PHI}, solver)
    optimiser = torch.optim.SGD([theta], **settings)
    for _ in range(6):
        optimiser.zero_grad()
        isotropic().inner_objective({"a": theta}, {"b": PHI}).backward()
        optimiser.step()
    torch.testing.assert_close(result.inner_params["a"], theta.detach())
    assert result.stationarity == pytest.approx((C * theta - PHI).norm().item())
    assert math.isnan(result.residual)


def test_an_unused_outer_parameter_gets_zero():
    phi = {"b": PHI, "unused": torch.ones(2, 2, dtype=torch.float64)}
    for name, settings in SOLVERS:
        result = hypergradient(isotropic(), {"a": PHI / C}, phi, make_solver(name, **settings))
        assert torch.equal(result.grad["unused"], torch.zeros(2, 2, dtype=torch.float64))
        assert list(result.grad) == ["b", "unused"]


def test_a_direct_term_alone_needs_no_solve():
    problem = BilevelProblem(isotropic().inner_objective, lambda _t, p: p["b"].square().sum())
    result = hypergradient(problem, {"a": PHI / C}, {"b": PHI}, make_solver("cg"))
    torch.testing.assert_close(result.grad["b"], 2 * PHI)
    assert result.num_hvps == 0
    assert result.residual == 0


def test_any_module_can_be_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(10, 2)

    def inner(theta: Params, phi: Params) -> Tensor:
        outputs = torch.func.functional_call(model, theta, (x,))
        penalty = sum((value.square().sum() for value in theta.values()), torch.zeros(()))
        return (outputs - phi["target"]).square().mean() + 0.1 * penalty

    def outer(theta: Params, _phi: Params) -> Tensor:
        return torch.func.functional_call(model, theta, (x,)).mean()

    problem = BilevelProblem(inner, outer)
    phi = {"target": torch.ones((), dtype=torch.float64)}
    theta = dict(model.named_parameters())
    cg = hypergradient(problem, theta, phi, make_solver("cg", ridge=10.0))
    dense = hypergradient(problem, theta, phi, make_solver("dense", ridge=10.0))
    torch.testing.assert_close(cg.grad, dense.grad)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("name", "settings"), SOLVERS)
def test_no_graph_outlives_the_call(name, settings):
    base = isotropic()
    seen = []

    def outer(theta: Params, phi: Params) -> Tensor:
        seen.extend([weakref.ref(theta["a"]), weakref.ref(phi["b"])])
        return base.outer_objective(theta, phi)

    problem = BilevelProblem(base.inner_objective, outer, base.inner_solution)
    result = hypergradient(problem, {"a": PHI / C}, {"b": PHI}, make_solver(name, **settings))
    assert result.grad
    assert [ref() for ref in seen] == [None, None]


def test_an_indefinite_inner_hessian_is_flagged_and_logged(caplog):
    problem = BilevelProblem(
        lambda t, p: (t["a"][0] ** 2 - t["a"][1] ** 2) + (t["a"] * p["b"]).sum(),
        lambda t, _p: t["a"].sum() + t["a"][1],
    )
    two = torch.zeros(2, dtype=torch.float64)
    for name in ("dense", "cg", "nystrom", "neumann"):
        caplog.clear()
        assert hypergradient(problem, {"a": two}, {"b": two}, make_solver(name)).negative_curvature
        assert f"'{name}' met non-positive curvature" in caplog.text
        assert caplog.records[0].levelname == "WARNING"


def test_a_linear_inner_objective_is_flagged():
    problem = BilevelProblem(lambda t, p: (t["a"] * p["b"]).sum(), lambda t, _p: t["a"].sum())
    result = hypergradient(problem, {"a": PHI}, {"b": PHI}, make_solver("cg"))
    assert result.negative_curvature
    assert result.residual == 1


@pytest.mark.parametrize("name", ["dense", "cg", "neumann", "nystrom", "unrolled"])
def test_an_objective_with_a_wrong_hessian_is_refused(name):
    class Surrogate:
        twice_differentiable = False
        reason = "a score-function surrogate with detached samples"

        def __call__(self, theta: Params, _phi: Params) -> Tensor:
            return theta["a"].square().sum()

    problem = BilevelProblem(Surrogate(), isotropic().outer_objective, isotropic().inner_solution)
    with pytest.raises(ConfigError, match=f"'{name}'.*score-function.*'reparameterised' or 'dice'"):
        hypergradient(problem, {"a": PHI}, {"b": PHI}, make_solver(name))
    assert hypergradient(problem, {"a": PHI}, {"b": PHI}, make_solver("closed_form")).grad


def run(inner=None, outer=None, theta=None, phi=None, solver="cg", **settings):
    base = isotropic()
    problem = BilevelProblem(inner or base.inner_objective, outer or base.outer_objective)
    theta = {"a": PHI} if theta is None else theta
    phi = {"b": PHI} if phi is None else phi
    return hypergradient(problem, theta, phi, make_solver(solver, **settings))


class TestBadInput:
    def test_an_objective_that_is_no_scalar(self):
        with pytest.raises(ValueError, match=r"inner_objective returned shape \[3\].*scalar"):
            run(inner=lambda t, p: t["a"] * p["b"])
        with pytest.raises(ValueError, match=r"outer_objective returned shape \[1\].*scalar"):
            run(outer=lambda t, _p: t["a"].sum().reshape(1))

    def test_a_loss_that_is_not_finite(self):
        with pytest.raises(MBRLError, match="inner_objective returned inf; it must be finite"):
            run(inner=lambda t, _p: t["a"].square().sum() / 0)
        with pytest.raises(MBRLError, match="outer_objective returned nan; it must be finite"):
            run(outer=lambda t, _p: t["a"].sum() * math.nan)

    @pytest.mark.parametrize("solver", ["cg", "unrolled"])
    def test_an_inner_parameter_that_the_inner_objective_ignores(self, solver):
        theta = {"a": PHI, "idle": PHI, "spare": PHI}
        with pytest.raises(
            ValueError, match=r"does not depend on inner_params \['idle', 'spare'\]"
        ):
            run(theta=theta, solver=solver)

    def test_an_inner_objective_of_nothing(self):
        with pytest.raises(ValueError, match=r"does not depend on inner_params \['a'\]"):
            run(inner=lambda _t, _p: torch.ones(()))

    def test_an_outer_objective_of_nothing(self):
        with pytest.raises(ValueError, match="depends on neither inner_params nor outer_params"):
            run(outer=lambda _t, _p: torch.ones(()))

    def test_empty_parameters(self):
        with pytest.raises(ValueError, match="inner_params is empty"):
            run(theta={})
        with pytest.raises(ValueError, match="outer_params is empty"):
            run(phi={})

    def test_integer_parameters(self):
        with pytest.raises(ValueError, match=r"outer_params\['b'\] has dtype torch.int64"):
            run(phi={"b": torch.ones(3, dtype=torch.int64)})

    def test_inner_parameters_of_several_dtypes(self):
        with pytest.raises(ValueError, match=r"share one dtype and device; found.*float32 on cpu"):
            run(theta={"a": PHI, "c": PHI.float()})

    def test_a_missing_closed_form(self):
        with pytest.raises(ConfigError, match="'closed_form' needs a problem with inner_solution"):
            run(solver="closed_form")

    def test_a_closed_form_of_another_shape(self):
        base = isotropic()
        problem = BilevelProblem(
            base.inner_objective, base.outer_objective, lambda phi: {"a": phi["b"][:2]}
        )
        with pytest.raises(ValueError, match=r"inner_solution returned shapes \{'a': \[2\]\}"):
            hypergradient(problem, {"a": PHI}, {"b": PHI}, make_solver("closed_form"))

    def test_a_wrong_closed_form_shows_in_the_stationarity(self):
        base = isotropic()
        problem = BilevelProblem(
            base.inner_objective, base.outer_objective, lambda phi: {"a": phi["b"]}
        )
        result = hypergradient(problem, {"a": PHI / C}, {"b": PHI}, make_solver("closed_form"))
        assert result.stationarity > 0.1

    def test_an_unrolled_trajectory_that_diverges(self):
        with pytest.raises(MBRLError, match=r"'unrolled' diverged with lr=50: .*Lower lr"):
            run(solver="unrolled", lr=50.0, num_steps=400)
