"""Bilevel problems with a known way to solve them, declared once for all hypergradient tests.

All in float64. A case's inner problem is strictly convex where it is solved.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_bilevel.bilevel import BilevelProblem

Params = dict[str, Tensor]
TEMPERATURE = 1.0


@dataclass(frozen=True)
class Case:
    """A problem, a start for its inner solve, and where to take the hypergradient."""

    name: str
    problem: BilevelProblem
    inner_start: Params
    outer_params: Params

    def solve(self, outer_params: Params) -> Params:
        """The inner solution: L-BFGS, then Newton steps down to rounding."""
        params = {k: v.clone().requires_grad_() for k, v in self.inner_start.items()}
        outer = {k: v.detach() for k, v in outer_params.items()}
        optimiser = torch.optim.LBFGS(
            list(params.values()), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            optimiser.zero_grad()
            loss = self.problem.inner_objective(params, outer)
            loss.backward()
            return loss.item()

        optimiser.step(closure)
        flat = ravel(params).detach()
        for _ in range(3):
            grad, hessian = inner_derivatives(self.problem, flat, self.inner_start, outer)
            flat = flat - torch.linalg.solve(hessian, grad)
        return unravel(flat, self.inner_start)


def ravel(params: Params) -> Tensor:
    """All entries in order, `[P]`."""
    return torch.cat([value.reshape(-1) for value in params.values()])


def unravel(flat: Tensor, like: Params) -> Params:
    """The inverse of `ravel`."""
    pieces = flat.split([value.numel() for value in like.values()])
    return {k: p.reshape(v.shape) for (k, v), p in zip(like.items(), pieces, strict=True)}


def inner_derivatives(
    problem: BilevelProblem, flat: Tensor, like: Params, outer: Params
) -> tuple[Tensor, Tensor]:
    """The inner loss's gradient `[P]` and Hessian `[P, P]` at a flat vector."""

    def loss(theta: Tensor) -> Tensor:
        return problem.inner_objective(unravel(theta, like), outer)

    grad_fn = torch.func.grad(loss)
    return grad_fn(flat), torch.func.jacrev(grad_fn)(flat)


def dense_reference(
    problem: BilevelProblem, inner: Params, outer: Params, ridge: float = 0.0
) -> Tensor:
    """The implicit hypergradient `[Q]` from explicit Jacobians, independent of the package."""
    theta, phi = ravel(inner), ravel(outer)

    def inner_loss(t: Tensor, p: Tensor) -> Tensor:
        return problem.inner_objective(unravel(t, inner), unravel(p, outer))

    def outer_loss(t: Tensor, p: Tensor) -> Tensor:
        return problem.outer_objective(unravel(t, inner), unravel(p, outer))

    # Reverse over reverse: forward mode imports torch's deprecated scripting, which warns.
    hessian, cross = torch.func.jacrev(torch.func.grad(inner_loss), argnums=(0, 1))(theta, phi)
    b, direct = torch.func.grad(outer_loss, argnums=(0, 1))(theta, phi)
    system = hessian + ridge * torch.eye(len(theta), dtype=theta.dtype)
    return direct - cross.mT @ torch.linalg.solve(system, b)


def central_differences(case: Case, step: float = 1e-4) -> Tensor:
    """The hypergradient `[Q]` from re-solving the inner problem on both sides of each entry."""
    phi = ravel(case.outer_params)

    def value(shifted: Tensor) -> float:
        outer = unravel(shifted, case.outer_params)
        return case.problem.outer_objective(case.solve(outer), outer).item()

    units = step * torch.eye(len(phi), dtype=phi.dtype)
    differences = [value(phi + unit) - value(phi - unit) for unit in units]
    return torch.tensor(differences, dtype=phi.dtype) / (2 * step)


def relative_error(found: Params, expected: Tensor) -> float:
    """`||found - expected|| / ||expected||`."""
    return float((ravel(found) - expected).norm() / expected.norm())


def _randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def quadratic() -> Case:
    """Two coupled inner tensors, an outer loss with a direct term: the solution is linear."""
    g = torch.Generator().manual_seed(0)
    root = _randn(g, 5, 5)
    hessian = root @ root.mT + 0.5 * torch.eye(5, dtype=torch.float64)
    coupling, target = _randn(g, 5, 3), _randn(g, 5)

    def inner(theta: Params, phi: Params) -> Tensor:
        t = ravel(theta)
        return 0.5 * t @ hessian @ t - t @ (coupling @ phi["shift"])

    def outer(theta: Params, phi: Params) -> Tensor:
        return (ravel(theta) - target).square().sum() + phi["shift"].pow(3).sum()

    start = {"a": torch.zeros(2, 1, dtype=torch.float64), "b": torch.zeros(3, dtype=torch.float64)}

    def solution(phi: Params) -> Params:
        return unravel(torch.linalg.solve(hessian, coupling @ phi["shift"]), start)

    return Case("quadratic", BilevelProblem(inner, outer, solution), start, {"shift": _randn(g, 3)})


def ridge_regression() -> Case:
    """A weight decay learned for each feature."""
    g = torch.Generator().manual_seed(1)
    x, y, x_val, y_val = _randn(g, 30, 4), _randn(g, 30), _randn(g, 20, 4), _randn(g, 20)

    def inner(theta: Params, phi: Params) -> Tensor:
        decay = (phi["log_decay"].exp() * theta["weight"].square()).sum()
        return (x @ theta["weight"] - y).square().mean() + decay

    def outer(theta: Params, _phi: Params) -> Tensor:
        return (x_val @ theta["weight"] - y_val).square().mean()

    def solution(phi: Params) -> Params:
        system = x.mT @ x / len(x) + torch.diag(phi["log_decay"].exp())
        return {"weight": torch.linalg.solve(system, x.mT @ y / len(x))}

    return Case(
        "ridge_regression",
        BilevelProblem(inner, outer, solution),
        {"weight": torch.zeros(4, dtype=torch.float64)},
        {"log_decay": torch.tensor([-2.0, -1.0, 0.0, -3.0], dtype=torch.float64)},
    )


def mlp_regression() -> Case:
    """A small network whose weight decay, one a layer, keeps its Hessian positive definite."""
    g = torch.Generator().manual_seed(2)
    x, x_val = _randn(g, 40, 2), _randn(g, 20, 2)
    y, y_val = x.prod(1, keepdim=True).tanh(), x_val.prod(1, keepdim=True).tanh()
    start = {
        "w1": _randn(g, 2, 3),
        "b1": _randn(g, 3),
        "w2": _randn(g, 3, 1),
        "b2": _randn(g, 1),
    }

    def forward(theta: Params, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(inputs @ theta["w1"] + theta["b1"])
        return hidden @ theta["w2"] + theta["b2"]

    def inner(theta: Params, phi: Params) -> Tensor:
        decay = phi["log_decay"].exp()
        first = theta["w1"].square().sum() + theta["b1"].square().sum()
        second = theta["w2"].square().sum() + theta["b2"].square().sum()
        return (forward(theta, x) - y).square().mean() + decay[0] * first + decay[1] * second

    def outer(theta: Params, _phi: Params) -> Tensor:
        return (forward(theta, x_val) - y_val).square().mean()

    return Case(
        "mlp_regression",
        BilevelProblem(inner, outer),
        start,
        {"log_decay": torch.tensor([-6.0, -5.0], dtype=torch.float64)},
    )


def gaussian(structure: str) -> Case:
    """A linear Gaussian model under a Mahalanobis reward, `scalar` or `diagonal`.

    The mean is linear in x and solves least squares; the log-variance, linear too, ends up
    constant at `log(temperature / (2 u))`.
    """
    g = torch.Generator().manual_seed(3)
    x, x_val = _randn(g, 40, 2), _randn(g, 30, 2)
    slope = _randn(g, 2, 2)
    scale = torch.tensor([0.5, 1.5], dtype=torch.float64)
    y, y_val = x @ slope + scale * _randn(g, 40, 2), x_val @ slope + scale * _randn(g, 30, 2)
    start = {name: torch.zeros(3, 2, dtype=torch.float64) for name in ("mean", "log_var")}

    def features(inputs: Tensor) -> Tensor:
        return torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)

    def inner(theta: Params, phi: Params) -> Tensor:
        mean, log_var = features(x) @ theta["mean"], features(x) @ theta["log_var"]
        expected_reward = -phi["log_u"].exp() * ((mean - y).square() + log_var.exp())
        entropy = 0.5 * (math.log(2 * math.pi * math.e) + log_var)
        return -(expected_reward + TEMPERATURE * entropy).sum(1).mean()

    def outer(theta: Params, _phi: Params) -> Tensor:
        mean, log_var = features(x_val) @ theta["mean"], features(x_val) @ theta["log_var"]
        errors = (mean - y_val).square() * (-log_var).exp()
        return 0.5 * (math.log(2 * math.pi) + log_var + errors).sum(1).mean()

    def solution(phi: Params) -> Params:
        mean = torch.linalg.lstsq(features(x), y).solution
        log_var = (math.log(TEMPERATURE / 2) - phi["log_u"]).expand(2)
        slopes = torch.zeros(2, 2, dtype=torch.float64)
        return {"mean": mean, "log_var": torch.cat([slopes, log_var[None]])}

    log_u = torch.zeros(1 if structure == "scalar" else 2, dtype=torch.float64)
    return Case(
        f"gaussian_{structure}",
        BilevelProblem(inner, outer, solution),
        start,
        {"log_u": log_u + torch.tensor([0.3, -0.4], dtype=torch.float64)[: len(log_u)]},
    )


def logistic_regression() -> Case:
    """Three classes with a learned weight a class and a learned weight decay."""
    g = torch.Generator().manual_seed(4)
    x, x_val = _randn(g, 60, 3), _randn(g, 40, 3)
    teacher = _randn(g, 3, 3)
    labels = (x @ teacher + _randn(g, 60, 3)).argmax(1)
    labels_val = (x_val @ teacher + _randn(g, 40, 3)).argmax(1)

    def inner(theta: Params, phi: Params) -> Tensor:
        log_prob = (x @ theta["weight"] + theta["bias"]).log_softmax(1)
        weights = phi["class_logits"].exp()[labels]
        nll = -(weights * log_prob[torch.arange(len(x)), labels]).mean()
        penalty = theta["weight"].square().sum() + theta["bias"].square().sum()
        return nll + phi["log_decay"].exp() * penalty

    def outer(theta: Params, _phi: Params) -> Tensor:
        logits = x_val @ theta["weight"] + theta["bias"]
        return torch.nn.functional.cross_entropy(logits, labels_val)

    return Case(
        "logistic_regression",
        BilevelProblem(inner, outer),
        {
            "weight": torch.zeros(3, 3, dtype=torch.float64),
            "bias": torch.zeros(3, dtype=torch.float64),
        },
        {
            "class_logits": torch.tensor([0.2, -0.3, 0.5], dtype=torch.float64),
            "log_decay": torch.tensor(-4.0, dtype=torch.float64),
        },
    )


CASES = (
    quadratic(),
    ridge_regression(),
    mlp_regression(),
    gaussian("scalar"),
    gaussian("diagonal"),
    logistic_regression(),
)
CLOSED_FORM_CASES = tuple(case for case in CASES if case.problem.inner_solution is not None)
