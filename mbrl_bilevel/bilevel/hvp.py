"""The inner gradient at a point, and products with its two Jacobians."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.problem import BilevelProblem, ParamDict


class InnerGradient:
    """`d_theta L_in` at a point; its graph is built once and serves every product.

    The objective is evaluated once, so one that draws noise keeps the same noise in all products.
    P is the number of inner parameters, counted entry by entry.

    Args:
        problem: whose inner objective to differentiate.
        inner_params: leaves that require grad, of one dtype and on one device.
        outer_params: leaves that require grad.

    Raises:
        ValueError: the inner objective does not depend on some inner parameter.
    """

    def __init__(
        self, problem: BilevelProblem, inner_params: ParamDict, outer_params: ParamDict
    ) -> None:
        self._inner = list(inner_params.values())
        self._outer_params = outer_params
        loss = problem.evaluate_inner(inner_params, outer_params)
        self._grads = gradient(loss, inner_params, create_graph=True)

    @property
    def norm(self) -> float:
        """Euclidean norm: the stationarity of the point."""
        return float(torch.linalg.vector_norm(flatten(self._grads)).item())

    def hvp(self, vector: Tensor) -> Tensor:
        """`(d_theta^2 L_in) vector`: `[P] -> [P]`."""
        return flatten(self._vjp(vector, self._inner))

    def cross_vjp(self, vector: Tensor) -> ParamDict:
        """`(d_phi d_theta L_in)^T vector`: `[P]` to one tensor an outer parameter."""
        products = self._vjp(vector, list(self._outer_params.values()))
        return dict(zip(self._outer_params, products, strict=True))

    def _vjp(self, vector: Tensor, targets: list[Tensor]) -> tuple[Tensor, ...]:
        return vjp(self._grads, unflatten(vector, self._inner), targets)


def vjp(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], targets: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """`sum_i (d outputs_i / d targets)^T cotangents_i`, keeping the graph for more of them.

    An output that is constant (the gradient of a linear term) carries no graph and adds zero.
    """
    pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(target) for target in targets)
    outputs, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(
        outputs, targets, cotangents, retain_graph=True, materialize_grads=True
    )


def outer_gradients(outer_loss: Tensor, targets: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`d outer_loss / d targets`, zero for unused ones.

    Raises:
        ValueError: the loss depends on no parameter at all.
    """
    if not outer_loss.requires_grad:
        raise ValueError("outer_objective depends on neither inner_params nor outer_params")
    return torch.autograd.grad(outer_loss, targets, materialize_grads=True)


def gradient(
    inner_loss: Tensor, inner_params: ParamDict, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """`d inner_loss / d inner_params`, in their order.

    Raises:
        ValueError: the loss does not depend on some of them.
    """
    grads: tuple[Tensor | None, ...] = (None,) * len(inner_params)
    if inner_loss.requires_grad:
        grads = torch.autograd.grad(
            inner_loss, list(inner_params.values()), create_graph=create_graph, allow_unused=True
        )
    unused = [name for name, g in zip(inner_params, grads, strict=True) if g is None]
    if unused:
        raise ValueError(
            f"inner_objective does not depend on inner_params {unused}: the inner problem leaves "
            "them undetermined. Take them out of inner_params and use them as constants"
        )
    return tuple(g for g in grads if g is not None)


def stationarity(
    problem: BilevelProblem, inner_params: ParamDict, outer_params: ParamDict
) -> float:
    """Norm of the inner gradient at leaves that require grad, without keeping a graph."""
    grads = gradient(problem.evaluate_inner(inner_params, outer_params), inner_params)
    return float(torch.linalg.vector_norm(flatten(grads)).item())


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """All entries in order, as one vector `[P]`."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """The inverse of `flatten`: pieces of `vector [P]` in the shapes of `like`."""
    shapes = [tensor.shape for tensor in like]
    pieces = torch.split(vector, [shape.numel() for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
