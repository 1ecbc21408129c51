"""The bilevel objective with a reward that knows the state: U(x), one precision a dimension."""

import math

from torch import Tensor

from mbrl_bilevel.bilevel.task_objective import TaskObjective
from mbrl_bilevel.objectives import differentiate_nll, gaussian_nll
from mbrl_bilevel.types import Gaussian


class StateDependentBilevel(TaskObjective):
    """Entropy-regularised policy gradient on the reward `-(y_hat - y)^T U(x) (y_hat - y)`.

    Inner problem, per sample, with the closed-form expectation of the reward:

        L_in = (mu - y)^T U(x) (mu - y) + tr(U(x) Sigma) - temperature * H(N(mu, Sigma))

    Its solution is `mu* = E[y|x]`, `Sigma*(x) = (temperature / 2) U(x)^{-1}`. The reward's network
    is the ensemble's log-variance head: what the head gives out is `log diag Sigma*(x)`, so that
    the covariance is at its solution by construction, and
    `log U(x) = log(temperature / 2) - log_var`.

    The outer problem is the negative log-likelihood of held-out data at that solution. In function
    space its hypergradient in `log U(x)` is `(r^2 exp(-log_var) - 1) / 2`, with r the residual
    (`d log_var* / d log U = -1` and `d mu* / d log U = 0`). While the mean is learned the reward
    follows this hypergradient on the training batches, through the shared features; once it stands,
    held-out data decides: see `solve_log_var_heads`.

    Both gradients are preconditioned by `Sigma*(x)^k` with the natural-gradient exponent k, which
    moves no fixed point. Per step on a training batch this is beta-NLL's gradient with beta = k
    (Seitzer et al. 2022), derived from the other side.

    Args:
        target_size: D.
        config: Temperature and natural-gradient exponent.
    """

    log_var_head_is_reward = True

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        """Return a loss with the gradients of both problems, `[E]`.

        Its gradient in the mean is the inner problem's times `Sigma*(x)^k / temperature`, in the
        log-variance (minus the log-precision) the outer problem's times `Sigma*(x)^k`.
        """
        preconditioner = self._preconditioner(prediction)
        return (preconditioner * gaussian_nll(prediction, target)).mean(dim=(1, 2))

    def differentiate(
        self, prediction: Gaussian, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return differentiate_nll(prediction, target, self._preconditioner(prediction))

    def log_precision(self, prediction: Gaussian) -> Tensor:
        """Return `log diag U(x)`, `[E, N, D]`."""
        return math.log(self.temperature / 2) - prediction.log_var

    def _preconditioner(self, prediction: Gaussian) -> Tensor:
        return self.task.weights * (self.natural_gradient * prediction.log_var.detach()).exp()

    def score(self, prediction: Gaussian, target: Tensor) -> Tensor:
        return (self.task.weights * gaussian_nll(prediction, target)).mean(dim=(1, 2))
