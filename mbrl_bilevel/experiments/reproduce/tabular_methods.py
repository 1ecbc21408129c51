"""The methods of table 1, by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mbrl_bilevel.bilevel import PolicyGradientLoss
from mbrl_bilevel.config import AnalyticConfig, DiceConfig, ScoreFunctionConfig
from mbrl_bilevel.config.tables import ClassificationConfig
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.estimators import make_estimator
from mbrl_bilevel.estimators.base import SampledEstimator
from mbrl_bilevel.experiments.reproduce.tabular_reward import best_scale, learn
from mbrl_bilevel.experiments.reproduce.tabular_task import (
    ClassificationTask,
    ClassLoss,
    Trained,
    cross_fitting,
    one_split,
    select,
    train,
)
from mbrl_bilevel.rewards import OneHotReward
from mbrl_bilevel.runs import derive_seed


@dataclass(frozen=True)
class FittedClassifier:
    """Conditional shares of classes that a method has learned.

    Attributes:
        logits_fn: `x [N, D] -> logits [N, C]`.
        num_updates: That the model has taken.
        beta: Of the reward `beta I` that the model was trained under; None: of none.
        learned_beta: Mean of the learned reward's diagonal, over what it depends on.
    """

    logits_fn: Callable[[Tensor], Tensor]
    num_updates: int
    beta: float | None = None
    learned_beta: float | None = None


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        label: As the report and the picture call it.
        fit: Trains a fresh model. Raises MBRLError if a loss is not finite.
    """

    label: str
    fit: Callable[[ClassificationTask], FittedClassifier]


def beta_star(task: ClassificationTask) -> float:
    """The paper's `lambda C / (2 (1 - sum_c q_c^2))`, q the shares of the training classes."""
    num_classes = task.splits.num_classes
    shares = torch.bincount(task.splits.training[1], minlength=num_classes).double()
    shares = shares / shares.sum()
    return task.config.temperature * num_classes / (2 * (1 - shares.square().sum().item()))


def fit_nll(task: ClassificationTask) -> FittedClassifier:
    """Maximum likelihood on the training rows, stopped by the held-out rows."""
    trained, _ = select(train(task, one_split(task), _nll_loss(task)), _nll)
    return FittedClassifier(trained, trained.num_updates)


def fit_nll_all(task: ClassificationTask) -> FittedClassifier:
    """Maximum likelihood on training and held-out rows, stopped by cross-fitting."""
    trained, _ = select(_cross_fit(task, "nll", _nll_loss(task)), _nll)
    return FittedClassifier(trained, trained.num_updates)


def fit_nll_scaled(task: ClassificationTask) -> FittedClassifier:
    """The same, its logits times the best factor for rows held out (Guo et al. 2017)."""
    ridge = task.config.scale_ridge
    criterion = partial(_best_loss, ridge=ridge)
    trained, _ = select(_cross_fit(task, "nll", _nll_loss(task)), criterion)
    scale, _ = best_scale(trained.logits, trained.y, ridge)
    return FittedClassifier(lambda x: scale * trained(x), trained.num_updates)


def fit_fixed_reward(
    beta_of: Callable[[ClassificationTask], float], task: ClassificationTask
) -> FittedClassifier:
    """The policy gradient under `U = beta I`, which stays as it is."""
    beta = beta_of(task)
    trained, _ = select(_cross_fit(task, f"beta {beta}", reward_loss(task, beta)), _nll)
    return FittedClassifier(trained, trained.num_updates, beta)


def train_for_learning(task: ClassificationTask) -> tuple[Trained, float]:
    """Train under each of the first rewards; return the models of the best one, and its beta.

    The best has the highest likelihood of rows held out under the best scalar reward.
    """
    criterion = partial(_best_loss, ridge=task.config.scale_ridge)
    best, best_beta, least = None, math.nan, math.inf
    for initial in task.config.initial_betas:
        beta = initial * task.config.temperature
        checkpoints = _cross_fit(task, f"beta {beta}", reward_loss(task, beta))
        trained, value = select(checkpoints, criterion)
        if value < least:
            best, best_beta, least = trained, beta, value
    if best is None:
        raise MBRLError("the likelihood of the held-out rows is not finite")
    return best, best_beta


def fit_bilevel(family: str, solver: str, task: ClassificationTask) -> FittedClassifier:
    """The policy gradient, and a reward that is learned on rows held out."""
    return fit_reward(*train_for_learning(task), family, solver, task.config)


def fit_reward(
    trained: Trained, beta: float, family: str, solver: str, config: ClassificationConfig
) -> FittedClassifier:
    """Learn the reward for models that were trained under `beta I`."""
    read_off = learn(trained, beta, family, solver, config)
    with torch.no_grad():
        diagonal = read_off.reward.metric.precision(trained.x.double()).diagonal()
    return FittedClassifier(read_off, trained.num_updates, beta, diagonal.mean().item())


def reward_loss(task: ClassificationTask, beta: float) -> ClassLoss:
    """Return the inner loss under `U = beta I`, with the estimator of the settings."""
    config = task.config
    estimators: dict[str, AnalyticConfig | ScoreFunctionConfig | DiceConfig] = {
        "analytic": AnalyticConfig(),
        "score_function": ScoreFunctionConfig(num_samples=config.num_samples),
        "dice": DiceConfig(num_samples=config.num_samples),
    }
    estimator = make_estimator(estimators[config.estimator], derive_seed(task.seed, "samples"))
    reward = OneHotReward(task.splits.num_classes, "scalar", beta).requires_grad_(False)
    inner_loss = PolicyGradientLoss(task.head, reward, estimator, config.temperature)

    def loss(logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
        del x
        losses = inner_loss(logits, {}, None, y)
        if isinstance(estimator, SampledEstimator):
            estimator.resample()
        return losses

    return loss


METHODS: dict[str, Method] = {
    "nll": Method("NLL", fit_nll),
    "nll_all": Method("NLL, held-out data too", fit_nll_all),
    "nll_scaled": Method("NLL, temperature-scaled", fit_nll_scaled),
    "pg_beta_1": Method("PG, β = 1", partial(fit_fixed_reward, lambda _: 1.0)),
    "pg_beta_star": Method("PG, β*", partial(fit_fixed_reward, beta_star)),
}
"""The baselines, in the order of the table; ours follows them."""

OURS = "bilevel"
OUR_LABEL = "ours, learned reward"


def _cross_fit(task: ClassificationTask, name: str, loss: ClassLoss) -> list[Trained]:
    if name not in task.cross_fitted:
        task.cross_fitted[name] = train(task, cross_fitting(task), loss)
    return task.cross_fitted[name]


def _nll_loss(task: ClassificationTask) -> ClassLoss:
    def loss(logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
        del x
        return -task.head.log_prob(logits, y)

    return loss


def _nll(logits: Tensor, y: Tensor) -> float:
    return torch.nn.functional.cross_entropy(logits, y).item()


def _best_loss(logits: Tensor, y: Tensor, ridge: float) -> float:
    return best_scale(logits, y, ridge)[1]
