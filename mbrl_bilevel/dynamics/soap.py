"""SOAP: Adam in the eigenbasis of the gradients' covariances, nearly a natural gradient."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

BASIS_EVERY = 50
"""Updates between two refinements of the eigenbases: they turn slowly, and refining is dear."""
COVARIANCE_EVERY = 5
"""Updates between two looks at the gradients' covariances."""
MAX_SIZE = 1024
"""Sides longer than this keep their own axes: a basis costs the cube of the length."""
ONE_SIDED = 128
"""Layers with more inputs than this are turned on the side of their inputs alone. It is the side
that matters more, and turning both would cost about as much as the gradient."""
SIDES = ("left", "right")


class SOAP(torch.optim.Optimizer):
    """Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024 (algorithm 3).

    The covariances `E[G G^T]` and `E[G^T G]` of a layer's gradients G are the factors of a
    Kronecker approximation of its Fisher matrix. In their eigenbasis that is nearly diagonal,
    and Adam's diagonal preconditioner nearly the natural gradient. The momentum is kept in that
    basis and turned with it.

    Parameters are `[..., in, out]`, leading dimensions being independent layers (the members of an
    ensemble); with `in` or `out` one (a bias) the update is Adam's.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        betas: Decay of the mean and of the second moments.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled, as in AdamW.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients that are there."""
        if closure is not None:
            raise ValueError("SOAP takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            _begin(state, gradient)
        state["step"] += 1
        step = int(state["step"])
        momentum_decay, decay = group["betas"]
        turned = _turn(gradient, state)
        mean, second_moment = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(turned, 1 - momentum_decay)
        second_moment.mul_(decay).addcmul_(turned, turned, value=1 - decay)
        scale = (second_moment / (1 - decay**step)).sqrt_().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        direction = _turn(mean / scale, state, back=True)
        parameter.add_(direction, alpha=-group["lr"] / (1 - momentum_decay**step))
        if step % COVARIANCE_EVERY == 0:
            for side in SIDES:
                if side in state:
                    state[side].lerp_(_covariance(gradient, side), 1 - decay**COVARIANCE_EVERY)
        if step % BASIS_EVERY == 0:
            _refine(state)


def _begin(state: dict[str, Any], gradient: Tensor) -> None:
    state["step"] = torch.zeros(())
    state["exp_avg"] = torch.zeros_like(gradient)
    state["exp_avg_sq"] = torch.zeros_like(gradient)
    if gradient.ndim < 2 or min(gradient.shape[-2:]) == 1:
        return
    num_in, num_out = gradient.shape[-2:]
    for side, size in zip(SIDES, (num_in, num_out), strict=True):
        if size <= MAX_SIZE and (side == "left" or num_in <= ONE_SIDED):
            covariance = _covariance(gradient, side)
            state[side] = covariance
            # A gradient that is not finite is found and named elsewhere.
            vectors = torch.linalg.eigh(covariance.nan_to_num(0.0, 0.0, 0.0))[1]
            # Largest eigenvalue first, as orthogonal iteration will keep them.
            state[f"{side}_basis"] = vectors.flip(-1).contiguous()


def _covariance(gradient: Tensor, side: str) -> Tensor:
    return gradient @ gradient.mT if side == "left" else gradient.mT @ gradient


def _turn(x: Tensor, state: dict[str, Any], *, back: bool = False) -> Tensor:
    """Express `x` `[..., in, out]` in the eigenbases, or back in the layer's own axes."""
    left, right = state.get("left_basis"), state.get("right_basis")
    if left is not None:
        x = (left if back else left.mT) @ x
    if right is not None:
        x = x @ (right.mT if back else right)
    return x


def _refine(state: dict[str, Any]) -> None:
    """Take one step of orthogonal iteration towards the eigenbases of the covariances."""
    mean = _turn(state["exp_avg"], state, back=True)
    for side in SIDES:
        if side in state:
            basis = f"{side}_basis"
            state[basis] = torch.linalg.qr(state[side] @ state[basis])[0]
    state["exp_avg"] = _turn(mean, state)
