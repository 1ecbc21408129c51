"""Watches the training of a model: an objective around the objective."""

from collections.abc import Callable

from torch import Tensor

from mbrl_bilevel.objectives import MSE, Objective, gaussian_nll, residual_second_moment
from mbrl_bilevel.types import Gaussian

OnEvaluation = Callable[[int, dict[str, float]], None]
"""Called with the number of updates so far and what to log, at every held-out evaluation."""


class RecordingObjective(Objective):
    """Does what the objective inside does, and reports at every held-out evaluation.

    Args:
        objective: What the model is trained by.
        on_evaluation: Gets `model/val_rmse`, `model/val_nll`, after the first update
            `model/train_loss`, and what the last outer step logged.
    """

    name = "recording"

    def __init__(self, objective: Objective, on_evaluation: OnEvaluation) -> None:
        super().__init__()
        self.objective = objective
        self.outer_every = objective.outer_every
        self.log_var_head_is_reward = objective.log_var_head_is_reward
        self._on_evaluation = on_evaluation
        self._num_updates = 0
        self._latest: dict[str, Tensor | float] = {}

    def prepare(self, target: Tensor) -> None:
        self.objective.prepare(target)

    def loss(self, prediction: Gaussian, target: Tensor) -> Tensor:
        losses = self.objective.loss(prediction, target)
        self._record(losses)
        return losses

    def differentiate(
        self, prediction: Gaussian, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        result = self.objective.differentiate(prediction, target)
        self._record(result[0])
        return result

    @property
    def solution_log_var(self) -> Tensor | None:
        return self.objective.solution_log_var

    def predictive(self, prediction: Gaussian) -> Gaussian:
        return self.objective.predictive(prediction)

    def score(self, prediction: Gaussian, target: Tensor) -> Tensor:
        scores = self.objective.score(prediction, target)
        # All but the MSE's are negative log-likelihoods already.
        nll = _mse_nll(prediction, target) if isinstance(self.objective, MSE) else scores.mean()
        rmse = (prediction.mean - target).square().mean().sqrt()
        metrics = {**self._latest, "model/val_rmse": rmse, "model/val_nll": nll}
        self._on_evaluation(self._num_updates, {tag: float(v) for tag, v in metrics.items()})
        return scores

    def outer_step(self, prediction: Gaussian, target: Tensor) -> dict[str, float]:
        metrics = self.objective.outer_step(prediction, target)
        self._latest |= metrics
        return metrics

    def solve_outer(self, prediction: Gaussian, target: Tensor) -> dict[str, float]:
        return self.objective.solve_outer(prediction, target)

    def _record(self, losses: Tensor) -> None:
        self._num_updates += 1
        self._latest["model/train_loss"] = losses.detach().mean()


def _mse_nll(prediction: Gaussian, target: Tensor) -> Tensor:
    """The mean NLL with the variance that MSE would take if it stopped here."""
    log_var = residual_second_moment(prediction, target).log()[:, None, :]
    return gaussian_nll(Gaussian(prediction.mean, log_var), target).mean()
