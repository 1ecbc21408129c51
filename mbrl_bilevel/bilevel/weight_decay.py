"""Weight decay as an outer parameter: one number, one a tensor, one a row or one an input."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.problem import ObjectiveFn, ParamDict
from mbrl_bilevel.errors import ConfigError

DecayGroups = Literal["shared", "tensor", "row", "column"]
"""What has a decay of its own: everything called shared together, a tensor, or a slice of a matrix.

A row of an `nn.Linear`'s weight `[out, in]` belongs to one output, a column to one input.
"""


def with_weight_decay(
    inner_objective: ObjectiveFn,
    inner_params: ParamDict,
    groups: DecayGroups | Mapping[str, DecayGroups] = "shared",
    initial: float = 1e-4,
) -> tuple[ObjectiveFn, ParamDict]:
    """Add `1/2 sum_g exp(log_decay_g) ||theta_g||^2` to an inner objective.

    The log-decays are outer parameters, to be learned beside others. Every solver differentiates
    them that works with the inner parameters themselves, which `functional` does not. With one a
    column of the first layer, inputs that do not help on held-out data are switched off.

    Args:
        inner_objective: Called with the outer parameters that are not log-decays.
        inner_params: What it is a function of; only names and shapes count.
        groups: One kind for all tensors, or the kind of each tensor by its name; those not named
            are not decayed.
        initial: The decay to start from, positive.

    Returns:
        The new inner objective and its log-decays, outer parameters of the same dtype: `log_decay
        []` for the shared ones, `log_decay.<name>` of shape `[]`, `[rows]` or `[columns]`.

    Raises:
        ConfigError: A name, a kind or the initial decay is impossible, or nothing is decayed.
        ValueError: A log-decay is missing among the outer parameters (when it is evaluated).
    """
    if not (math.isfinite(initial) and initial > 0):
        raise ConfigError(f"initial={initial!r}; it must be positive and finite")
    kinds = dict.fromkeys(inner_params, groups) if isinstance(groups, str) else dict(groups)
    if not kinds:
        raise ConfigError("groups is empty: there is nothing to decay")
    log_decays: ParamDict = {}
    for name, kind in kinds.items():
        _check_group(name, kind, inner_params)
        shape = {"row": inner_params[name].shape[:1], "column": inner_params[name].shape[-1:]}
        log_decays[_key(name, kind)] = torch.full(
            shape.get(kind, torch.Size()),
            math.log(initial),
            dtype=inner_params[name].dtype,
            device=inner_params[name].device,
        )
    return _Decayed(inner_objective, kinds, frozenset(log_decays)), log_decays


class _Decayed:
    def __init__(
        self,
        inner_objective: ObjectiveFn,
        kinds: dict[str, DecayGroups],
        keys: frozenset[str],
    ) -> None:
        self._inner_objective = inner_objective
        self._kinds = kinds
        self._keys = keys
        self.twice_differentiable = bool(getattr(inner_objective, "twice_differentiable", True))
        self.reason = str(getattr(inner_objective, "reason", ""))

    def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        missing = sorted(self._keys - outer_params.keys())
        if missing:
            raise ValueError(f"outer_params lacks {missing}: the log-decays are among them")
        rest = {name: value for name, value in outer_params.items() if name not in self._keys}
        loss = self._inner_objective(inner_params, rest)
        for name, kind in self._kinds.items():
            decay = outer_params[_key(name, kind)].exp()
            loss = loss + 0.5 * (decay * _squares(inner_params[name], kind)).sum()
        return loss


def _squares(values: Tensor, kind: DecayGroups) -> Tensor:
    """The squared norm of each group, in the shape of its log-decays."""
    if kind == "row":
        return values.square().sum(dim=1)
    if kind == "column":
        return values.square().sum(dim=0)
    return values.square().sum()


def _key(name: str, kind: DecayGroups) -> str:
    return "log_decay" if kind == "shared" else f"log_decay.{name}"


def _check_group(name: str, kind: str, inner_params: ParamDict) -> None:
    if name not in inner_params:
        raise ConfigError(
            f"groups names {name!r}; inner_params are {', '.join(sorted(inner_params))}"
        )
    if kind not in get_args(DecayGroups):
        allowed = ", ".join(get_args(DecayGroups))
        raise ConfigError(f"groups[{name!r}]={kind!r}; allowed: {allowed}")
    if kind in ("row", "column") and inner_params[name].ndim != 2:
        raise ConfigError(
            f"groups[{name!r}]={kind!r} is for matrices, and its shape is "
            f"{list(inner_params[name].shape)}"
        )
