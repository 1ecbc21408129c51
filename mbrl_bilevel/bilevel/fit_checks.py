"""Checks of a model, its reward, its data and a solver, before any training."""

import warnings

import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel.fit_defaults import has_closed_form
from mbrl_bilevel.bilevel.fit_state import evaluating
from mbrl_bilevel.bilevel.policy_gradient import PolicyGradientLoss
from mbrl_bilevel.bilevel.problem import (
    ParamDict,
    check_sample_losses,
    require_twice_differentiable,
)
from mbrl_bilevel.bilevel.solvers import Solver
from mbrl_bilevel.bilevel.solvers.closed_form import ClosedFormSolver
from mbrl_bilevel.bilevel.solvers.dense import MAX_SIZE, DenseSolver
from mbrl_bilevel.bilevel.solvers.functional import FunctionalSolver
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import Head

Data = tuple[Tensor, Tensor]

_MAX_OVERLAP = 0.05
"""Share of held-out rows that may also be training rows: discrete data repeat themselves."""


def check_solver(solver: Solver, loss: PolicyGradientLoss, has_outer_objective: bool) -> None:
    """Raise ConfigError unless the solver can differentiate this inner loss."""
    if isinstance(solver, ClosedFormSolver):
        raise ConfigError(
            "solver 'closed_form' needs a formula for the inner solution, and a model that is "
            "trained has none; use 'functional', 'cg' or 'nystrom'"
        )
    if not isinstance(solver, FunctionalSolver):
        require_twice_differentiable(loss, solver.name)
        return
    if has_outer_objective:
        raise ConfigError(
            "solver 'functional' differentiates the held-out NLL, sample by sample; with an "
            "outer_objective of your own use 'cg' or 'nystrom'"
        )
    if not has_closed_form(loss.head, loss.reward):
        raise ConfigError(
            f"solver 'functional' cannot read the targets' distribution off a solution for head "
            f"{loss.head.name!r} with reward {type(loss.reward).__name__}; use 'cg' or 'nystrom'"
        )


def check_fit(
    model: nn.Module,
    loss: PolicyGradientLoss,
    params: ParamDict,
    solver: Solver,
    inner_data: Data,
    outer_data: Data | None,
) -> None:
    """Check all that `BilevelTrainer.fit` is given.

    Raises:
        ConfigError: The model has no parameters to learn, or too many for the solver.
        ValueError: Model, reward and data do not fit together.

    Warns:
        UserWarning: The outer data are not held out.
    """
    if not params:
        raise ConfigError("the model has no parameter that requires a gradient: nothing to train")
    num_params = sum(parameter.numel() for parameter in params.values())
    if isinstance(solver, DenseSolver) and num_params > MAX_SIZE:
        raise ConfigError(
            f"solver 'dense' is for at most {MAX_SIZE} parameters, and the model has {num_params}; "
            "use 'cg', 'nystrom' or 'functional'"
        )
    data = {"inner_data": inner_data}
    if outer_data is not None:
        data["outer_data"] = outer_data
    for name, pair in data.items():
        check_data(name, pair, loss.head)
    check_same_kind(model, loss.reward, data)
    with evaluating(model):
        for name, pair in data.items():
            check_model(model, loss, params, name, pair)
    if outer_data is not None:
        _warn_unless_held_out(inner_data, outer_data)


def check_data(name: str, data: Data, head: Head) -> None:
    """Raise ValueError unless `(x [N, ...], y [N, ...])` is finite and fit for the head."""
    x, y = data
    if len(x) == 0:
        raise ValueError(f"{name} is empty")
    if len(x) != len(y):
        raise ValueError(f"{name} holds {len(x)} inputs but {len(y)} targets")
    if x.is_floating_point():
        bad = ~torch.isfinite(x)
        if bad.any():
            row = bad.nonzero()[0, 0].item()
            raise ValueError(
                f"{name}: the inputs hold nan or infinity ({int(bad.sum())} values; row {row})"
            )
    try:
        head.check_targets(y)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_same_kind(model: nn.Module, reward: nn.Module, data: dict[str, Data]) -> None:
    """Raise ValueError unless everything floating-point has one dtype, and lies on one device."""
    tensors: dict[str, Tensor] = {f"the model's {n}": p for n, p in model.named_parameters()}
    tensors |= {f"{name}'s inputs": x for name, (x, _) in data.items()}
    tensors |= {f"{name}'s targets": y for name, (_, y) in data.items()}
    tensors |= {f"the reward's {name}": value for name, value in reward.named_parameters()}
    dtypes = {n: str(t.dtype) for n, t in tensors.items() if t.is_floating_point()}
    devices = {n: str(t.device) for n, t in tensors.items()}
    for kind, found in {"dtype": dtypes, "device": devices}.items():
        if len(set(found.values())) > 1:
            examples = {value: name for name, value in reversed(found.items())}
            listed = ", ".join(f"{value} ({name})" for value, name in examples.items())
            raise ValueError(
                f"model, reward and data must share one {kind}; found {listed}. "
                "Use .to(...) on what differs"
            )


def check_model(
    model: nn.Module, loss: PolicyGradientLoss, params: ParamDict, name: str, data: Data
) -> None:
    """Raise ValueError unless the model's outputs are the head's, and depend on all of params.

    Judged by the first two rows of the data.
    """
    x, y = data[0][:2], data[1][:2]
    outputs = model(x)
    loss.head.check_outputs(outputs)
    if outputs.ndim < 2 or outputs.shape[-2] != len(x):
        raise ValueError(
            f"{name}: the model's outputs have shape {list(outputs.shape)} for {len(x)} inputs; "
            f"they must be [..., {len(x)}, {loss.head.num_outputs}]"
        )
    losses = loss(outputs, {}, x, y)
    check_sample_losses("the reward's inner loss", losses, outputs)
    grads = torch.autograd.grad(losses.sum(), list(params.values()), allow_unused=True)
    unused = [name for name, grad in zip(params, grads, strict=True) if grad is None]
    if unused:
        raise ValueError(
            f"the model's outputs do not depend on its parameters {unused}: fix them by "
            "requires_grad_(False)"
        )


def _warn_unless_held_out(inner_data: Data, outer_data: Data) -> None:
    """Warn (UserWarning) if more than a few of the held-out rows are training rows."""
    training = set(_rows(inner_data))
    held_out = _rows(outer_data)
    num_shared = sum(row in training for row in held_out)
    if num_shared > _MAX_OVERLAP * len(held_out):
        warnings.warn(
            f"outer_data is not held out: {num_shared} of its {len(held_out)} rows are in "
            "inner_data. A flexible model drives its training residuals to zero, and the learned "
            "reward collapses with them: U grows without bound and the model's variances vanish. "
            "Split the data, e.g. 80 % inner and 20 % outer",
            UserWarning,
            stacklevel=5,
        )


def _rows(data: Data) -> list[bytes]:
    """Every row's input and target, as bytes."""
    parts = [values.detach().reshape(len(values), values[0].numel()) for values in data]
    table = torch.cat([part.contiguous().cpu().view(torch.uint8) for part in parts], dim=1)
    buffer, width = table.numpy().tobytes(), table.shape[1]
    return [buffer[start : start + width] for start in range(0, len(buffer), width)]
