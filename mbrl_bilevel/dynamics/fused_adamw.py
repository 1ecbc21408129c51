"""AdamW by PyTorch's fused kernel, without what a step costs around it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Moments:
    """What the kernel needs of a group's parameters, besides their gradients.

    Attributes:
        means, second_moments: Those of the optimiser's state.
        step: How many steps there were; one count for all parameters of the group.
    """

    means: list[Tensor]
    second_moments: list[Tensor]
    step: Tensor


class FusedAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` with `fused=True`, to the bit; what it saves and loads is the same, too.

    The fused kernel is several times faster on small networks, on the CPU too. What PyTorch does
    around it in every step - gathering the state, sorting parameters by device and type, counting
    the steps of each - takes half as long again there, and is left out: on the CPU the kernel is
    called directly. It has no public name; where it is missing, or called otherwise, PyTorch's own
    step takes its place.

    Args:
        params: Groups of parameters; all get a gradient before every step.
        lr: Learning rate.
    """

    _moments: list[_Moments] | None = None

    def __init__(self, params: list[dict[str, Any]], lr: float) -> None:
        super().__init__(params, lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients that are there."""
        if closure is not None:
            raise ValueError("FusedAdamW takes no closure")
        if self._moments is None:
            super().step()  # it also makes the state
            self._moments = self._gather()
            return
        for group, moments in zip(self.param_groups, self._moments, strict=True):
            moments.step.add_(1)
            _call_kernel(group, [parameter.grad for parameter in group["params"]], moments)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as `torch.optim.AdamW` does."""
        self._write_steps()
        return super().state_dict()

    def __getstate__(self) -> dict[str, Any]:
        self._write_steps()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state: of a copy, of a pickle or, as PyTorch does it, of `load_state_dict`."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._moments = None

    def _write_steps(self) -> None:
        if self._moments is None:
            return
        for group, moments in zip(self.param_groups, self._moments, strict=True):
            for parameter in group["params"]:
                self.state[parameter]["step"].copy_(moments.step)

    def _gather(self) -> list[_Moments] | None:
        """Return what the kernel needs of each group; None: it cannot be called."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        if not has_fused_kernel() or not all(parameter.is_cpu for parameter in parameters):
            return None
        gathered = []
        for group in self.param_groups:
            states = [self.state[parameter] for parameter in group["params"]]
            means = [state["exp_avg"] for state in states]
            second_moments = [state["exp_avg_sq"] for state in states]
            gathered.append(_Moments(means, second_moments, states[0]["step"].clone()))
        return gathered


@cache
def has_fused_kernel() -> bool:
    """Return whether the kernel is there and does what PyTorch's own step does, by an example."""
    ours, theirs = (torch.linspace(-1, 1, 5, requires_grad=True) for _ in range(2))
    theirs.grad = torch.linspace(1, 2, 5)
    optimizer = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.2, fused=True)
    optimizer.step()
    moments = _Moments([torch.zeros(5)], [torch.zeros(5)], torch.ones(()))
    group = {**optimizer.param_groups[0], "params": [ours]}
    try:
        with torch.no_grad():
            _call_kernel(group, [theirs.grad], moments)
    except (AttributeError, RuntimeError, TypeError):  # not in this version, or called otherwise
        return False
    state = optimizer.state[theirs]
    return (
        torch.equal(ours, theirs)
        and torch.equal(moments.means[0], state["exp_avg"])
        and torch.equal(moments.second_moments[0], state["exp_avg_sq"])
    )


def _call_kernel(group: dict[str, Any], gradients: list[Any], moments: _Moments) -> None:
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(
        group["params"],
        gradients,
        moments.means,
        moments.second_moments,
        [],
        [moments.step] * len(gradients),
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )
