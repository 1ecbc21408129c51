"""Bilevel problems: an outer objective, judged at the solution of an inner one."""

from collections.abc import Callable

import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError, MBRLError

ParamDict = dict[str, Tensor]
"""Named tensors; a parameter's name is what error messages quote."""

ObjectiveFn = Callable[[ParamDict, ParamDict], Tensor]
"""`(inner_params, outer_params) -> loss []`, minimised.

An objective whose second derivatives are not those of its expectation (a score-function surrogate
with detached samples) says so with the attributes `twice_differentiable = False` and `reason`.
"""

SolutionFn = Callable[[ParamDict], ParamDict]
"""`outer_params -> inner_params`: the exact inner solution, differentiable."""

ModelFn = Callable[[ParamDict, Tensor], Tensor]
"""`(inner_params, x [N, ...]) -> outputs [*S, n]`."""

SampleLossFn = Callable[[Tensor, ParamDict, Tensor, Tensor], Tensor]
"""`(outputs [*S, n], outer_params, x [N, ...], last) -> loss [*S]`.

`last` is `y [N, ...]`, or for an expected inner loss the `solution [*S, n]`.
"""


class BilevelProblem:
    """`min_phi L_out(theta*(phi), phi)` with `theta*(phi) = argmin_theta L_in(theta, phi)`.

    Args:
        inner_objective: `L_in(theta, phi)`, a scalar.
        outer_objective: `L_out(theta, phi)`, a scalar.
        inner_solution: `phi -> theta*(phi)` where it is known in closed form and differentiable;
            only the `closed_form` solver uses it.
    """

    def __init__(
        self,
        inner_objective: ObjectiveFn,
        outer_objective: ObjectiveFn,
        inner_solution: SolutionFn | None = None,
    ) -> None:
        self.inner_objective = inner_objective
        self.outer_objective = outer_objective
        self.inner_solution = inner_solution

    def evaluate_inner(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        """The inner loss `[]`. Raises ValueError if not a scalar, MBRLError if not finite."""
        return _checked_scalar("inner_objective", self.inner_objective(inner_params, outer_params))

    def evaluate_outer(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        """The outer loss `[]`. Raises ValueError if not a scalar, MBRLError if not finite."""
        return _checked_scalar("outer_objective", self.outer_objective(inner_params, outer_params))


class FunctionalProblem(BilevelProblem):
    """A bilevel problem whose losses act on a model's outputs, one sample at a time.

    With outputs `z = model_fn(theta, x)` the two objectives are the means of `inner_loss` over
    `inner_data` and of `outer_loss` over `outer_data`: every solver can differentiate those. The
    `functional` solver differentiates in the outputs instead, with one n-by-n solve a sample.

    `*S` is whatever the losses separate over: `[N]`, or more. A diagonal Gaussian as
    `z = stack((mean, log_var), -1)` of shape `[E, N, D, 2]` needs 2-by-2 solves only.

    At a held-out x the inner problem is known through its conditional expectation alone,
    `E[inner_loss(z, phi, x, y) | x]`. Evaluating `inner_loss` at the held-out y instead would
    correlate it with the outer gradient at the same y and bias their product (for a Mahalanobis
    reward it even flips the sign). `expected_inner_loss(z, phi, x, solution)` is that expectation,
    with what it needs to know about y read off `solution`, the model's current outputs, detached.
    (Where reading it off takes outer parameters, detach those too: y does not depend on them.)
    Terms free of z may be left out. At an inner optimum stationarity determines what is needed:

    - Gaussian, Mahalanobis reward: the conditional mean of y is the solution's mean, so put the
      solution's mean in the target's place;
    - categorical, reward `-2 beta [y_hat != y]`, temperature lambda: the conditional shares are
      `q = lambda / (2 beta) log p + constant` with p the solution's probabilities; the constant
      does not matter, as p sums to one.

    The functional hypergradient is exact where the outputs at the outer x minimise the conditional
    inner loss, i.e. where the model is flexible enough and solved. For a rigid model it is the
    hypergradient of the unconstrained functions, another quantity than the parameters' one.

    Args:
        model_fn: `(inner_params, x) -> z [*S, n]`.
        inner_loss: `(z, outer_params, x, y) -> [*S]`.
        outer_loss: `(z, outer_params, x, y) -> [*S]`.
        expected_inner_loss: `(z, outer_params, x, solution) -> [*S]`, see above.
        inner_data: `(x [N_in, ...], y [N_in, ...])`.
        outer_data: `(x [N_out, ...], y [N_out, ...])`, held out from `inner_data`.
        inner_solution: as for `BilevelProblem`.

    Raises:
        ValueError: a data set is empty, or its x and y differ in length.
    """

    def __init__(
        self,
        model_fn: ModelFn,
        inner_loss: SampleLossFn,
        outer_loss: SampleLossFn,
        expected_inner_loss: SampleLossFn,
        inner_data: tuple[Tensor, Tensor],
        outer_data: tuple[Tensor, Tensor],
        inner_solution: SolutionFn | None = None,
    ) -> None:
        _check_data("inner_data", inner_data)
        _check_data("outer_data", outer_data)
        super().__init__(
            _MeanLoss("inner_loss", inner_loss, model_fn, inner_data),
            _MeanLoss("outer_loss", outer_loss, model_fn, outer_data),
            inner_solution,
        )
        self.model_fn = model_fn
        self.inner_loss = inner_loss
        self.outer_loss = outer_loss
        self.expected_inner_loss = expected_inner_loss
        self.inner_data = inner_data
        self.outer_data = outer_data


class _MeanLoss:
    """The mean of a per-sample loss over a data set, as an `ObjectiveFn`."""

    def __init__(
        self, name: str, loss: SampleLossFn, model_fn: ModelFn, data: tuple[Tensor, Tensor]
    ) -> None:
        self._name = name
        self._loss = loss
        self._model_fn = model_fn
        self._data = data
        self.twice_differentiable = bool(getattr(loss, "twice_differentiable", True))
        self.reason = str(getattr(loss, "reason", ""))

    def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        x, y = self._data
        outputs = self._model_fn(inner_params, x)
        losses = self._loss(outputs, outer_params, x, y)
        check_sample_losses(self._name, losses, outputs)
        return losses.mean()


def check_sample_losses(name: str, losses: Tensor, outputs: Tensor) -> None:
    """Raise ValueError unless there is one loss a sample: `[*S]` for outputs `[*S, n]`."""
    if losses.shape != outputs.shape[:-1]:
        raise ValueError(
            f"{name} returned shape {list(losses.shape)} for outputs of shape "
            f"{list(outputs.shape)}; it must return one loss a sample, {list(outputs.shape[:-1])}"
        )


def require_twice_differentiable(objective: object, solver_name: str) -> None:
    """Raise ConfigError if `objective` declares its second derivatives to be wrong."""
    if getattr(objective, "twice_differentiable", True):
        return
    reason = getattr(objective, "reason", "") or "its samples do not depend on the parameters"
    raise ConfigError(
        f"solver {solver_name!r} differentiates the inner gradient, and this inner objective's "
        f"second derivatives are wrong: {reason}. Use the estimator 'analytic', 'reparameterised' "
        "or 'dice'"
    )


def as_leaves(kind: str, params: ParamDict) -> ParamDict:
    """Leaves that share the memory of `params` but keep gradients to themselves.

    Raises:
        ValueError: `params` is empty, or holds a tensor that is not floating-point.
    """
    if not params:
        raise ValueError(f"{kind} is empty: there is nothing to differentiate")
    for name, value in params.items():
        if not value.is_floating_point():
            raise ValueError(f"{kind}[{name!r}] has dtype {value.dtype}; it must be floating-point")
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _checked_scalar(name: str, loss: Tensor) -> Tensor:
    if loss.ndim != 0:
        raise ValueError(f"{name} returned shape {list(loss.shape)}; it must return a scalar, []")
    if not torch.isfinite(loss):
        raise MBRLError(f"{name} returned {loss.item()}; it must be finite")
    return loss


def _check_data(name: str, data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    if len(x) == 0:
        raise ValueError(f"{name} is empty")
    if len(x) != len(y):
        raise ValueError(f"{name} holds {len(x)} inputs but {len(y)} targets")
