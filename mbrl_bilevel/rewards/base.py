"""What all rewards of a prediction share."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.func import functional_call

ResultT = TypeVar("ResultT")


class Reward(nn.Module):
    """`r_phi(y_hat, y, x)`, what the inner problem maximises; its parameters are phi.

    The reward is at most zero and is zero for a perfect prediction. Parameters that require a
    gradient are learned, the others fixed: `reward.requires_grad_(False)` fixes all of them.
    """

    def forward(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> Tensor:
        """Return the reward `[...]` of predictions `[..., D]` for targets `[..., D]`.

        Of classes, predictions and targets are integers `[...]`. Everything broadcasts, so that
        samples `[K, *S, D]` are judged by targets `[*S, D]` and inputs `x [*S, D_x]`.
        """
        raise NotImplementedError

    def outer_params(self) -> dict[str, Tensor]:
        """Return the learned parameters by name, detached copies: a start for the outer problem."""
        return {
            name: parameter.detach().clone()
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def using(
        self, params: Mapping[str, Tensor], compute: Callable[["Reward"], ResultT]
    ) -> ResultT:
        """Return `compute(self)` with parameters replaced by `params`, for this call alone.

        Args:
            params: Tensors by parameter name; what is missing stays as it is.
            compute: Takes the reward.

        Raises:
            ValueError: A name is none of the reward's parameters.
        """
        unknown = params.keys() - dict(self.named_parameters()).keys()
        if unknown:
            raise ValueError(
                f"reward {type(self).__name__} has no parameter {sorted(unknown)[0]!r}; it has "
                f"{sorted(dict(self.named_parameters()))}"
            )
        if not params:
            return compute(self)
        prefixed = {f"reward.{name}": value for name, value in params.items()}
        result: ResultT = functional_call(_Caller(self), prefixed, (compute,))
        return result


class _Caller(nn.Module):
    """Lets `functional_call`, which replaces parameters for a `forward`, call anything."""

    def __init__(self, reward: Reward) -> None:
        super().__init__()
        self.reward = reward

    def forward(self, compute: Callable[[Reward], ResultT]) -> ResultT:
        return compute(self.reward)
