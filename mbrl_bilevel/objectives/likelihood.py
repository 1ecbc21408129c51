"""Likelihood objectives: NLL and beta-NLL."""

from torch import Tensor

from mbrl_bilevel.objectives.base import Objective, differentiate_nll, gaussian_nll
from mbrl_bilevel.types import Gaussian


class NLL(Objective):
    """Gaussian negative log-likelihood."""

    name = "nll"

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        return gaussian_nll(prediction, target).mean(dim=(1, 2))

    def differentiate(
        self, prediction: Gaussian, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return differentiate_nll(prediction, target)


class BetaNLL(Objective):
    """NLL with each term weighted by `stop_gradient(variance) ** beta`.

    Seitzer et al., "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic
    Neural Networks", ICLR 2022, equation 6. beta=0 is NLL; beta=1 gives the mean MSE's gradient.
    """

    name = "beta_nll"

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        self.beta = beta

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        weight = self._weight(prediction)
        return (weight * gaussian_nll(prediction, target)).mean(dim=(1, 2))

    def differentiate(
        self, prediction: Gaussian, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return differentiate_nll(prediction, target, self._weight(prediction))

    def _weight(self, prediction: Gaussian) -> Tensor:
        return (self.beta * prediction.log_var.detach()).exp()
