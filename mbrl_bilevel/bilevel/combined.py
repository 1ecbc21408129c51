"""A weighted sum of objectives."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.problem import ObjectiveFn, ParamDict
from mbrl_bilevel.errors import ConfigError


def combined(terms: Mapping[str, tuple[float, ObjectiveFn]]) -> ObjectiveFn:
    """Return `sum_i weight_i objective_i(inner_params, outer_params)`.

    Args:
        terms: A weight, finite and not negative, and an objective, by a name for error messages.

    Raises:
        ConfigError: There is no term, or a weight is impossible.
        ValueError: A term is not a scalar (when the sum is evaluated).
    """
    if not terms:
        raise ConfigError("terms is empty: there is nothing to minimise")
    for name, (weight, _) in terms.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(
                f"the weight of {name!r} is {weight!r}; it must be finite and not negative"
            )
    return _Combined(dict(terms))


class _Combined:
    def __init__(self, terms: dict[str, tuple[float, ObjectiveFn]]) -> None:
        self._terms = terms
        wrong = [
            f"{name}: {getattr(objective, 'reason', '')}"
            for name, (_, objective) in terms.items()
            if not getattr(objective, "twice_differentiable", True)
        ]
        self.twice_differentiable = not wrong
        self.reason = "; ".join(wrong)

    def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        losses = []
        for name, (weight, objective) in self._terms.items():
            loss = objective(inner_params, outer_params)
            if loss.ndim != 0:
                raise ValueError(
                    f"{name!r} returned shape {list(loss.shape)}; it must return a scalar, []"
                )
            losses.append(weight * loss)
        return torch.stack(losses).sum()
