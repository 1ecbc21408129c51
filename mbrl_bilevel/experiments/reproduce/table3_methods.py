"""The methods of table 3, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import (
    FunctionalProblem,
    PolicyGradientLoss,
    as_model_fn,
    hypergradient,
    make_solver,
)
from mbrl_bilevel.bilevel.fit_state import OuterUpdate
from mbrl_bilevel.bilevel.problem import ParamDict
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.experiments.reproduce.table3_ours import fit_bilevel
from mbrl_bilevel.experiments.reproduce.table3_task import (
    Descent,
    Fitted,
    Task,
    TrainingLoss,
    make_model,
)
from mbrl_bilevel.experiments.reproduce.training import MAX_OUTER_STEP
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.rewards import MahalanobisReward


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        label: As the report and the picture call it.
        fit: Trains a fresh model. Raises MBRLError if a loss is not finite.
    """

    label: str
    fit: Callable[[Task], Fitted]


def fit_mse(task: Task) -> Fitted:
    """Least squares; its distribution has the variances of the held-out residuals, at every x."""
    head = task.head
    model = _train(task, lambda outputs, _, y: (head.mean(outputs) - y).square().sum(dim=-1))
    with torch.no_grad():
        x, y = task.held_out
        log_var = (head.mean(model(x)) - y).square().mean(dim=0).log()

    def outputs_fn(x: Tensor) -> Tensor:
        return torch.cat([head.mean(model(x)), log_var.expand(len(x), -1)], dim=-1)

    return Fitted(outputs_fn, head, task.config.num_updates)


def fit_nll(task: Task) -> Fitted:
    """Maximum likelihood."""
    head = task.head
    model = _train(task, lambda outputs, _, y: -head.log_prob(outputs, y))
    return Fitted(model, head, task.config.num_updates)


def identity_reward(task: Task) -> MahalanobisReward:
    """`U = I`."""
    return MahalanobisReward(task.target_size, "scalar", initial=1.0)


def trace_reward(task: Task) -> MahalanobisReward:
    """`U = (temperature n / (2 tr Cov y)) I`, Cov y that of the training targets over all x."""
    u = task.config.temperature * task.target_size / (2 * task.target_covariance.trace().item())
    return MahalanobisReward(task.target_size, "scalar", initial=u)


def covariance_reward(task: Task) -> MahalanobisReward:
    """`U = (temperature / 2) Cov(y)^{-1}`."""
    inverse = task.target_covariance.inverse()
    u = 0.25 * task.config.temperature * (inverse + inverse.mT)
    return MahalanobisReward(task.target_size, "full", initial=u.float())


def fit_fixed_reward(make_reward: Callable[[Task], MahalanobisReward], task: Task) -> Fitted:
    """The policy gradient under a reward that stays as it is."""
    reward = make_reward(task)
    reward.requires_grad_(False)
    loss = PolicyGradientLoss(task.head, reward, Analytic(), task.config.temperature)
    model = _train(task, lambda outputs, x, y: loss(outputs, {}, x, y))
    return Fitted(model, task.head, task.config.num_updates)


def fit_implicit(task: Task) -> Fitted:
    """The policy gradient under `U = u I`, with u learned on held-out data as the model learns.

    A hypergradient step on log u follows every `inner_steps` updates of the model. Those add up to
    `num_updates`, as for every method; they come last.
    """
    config, head = task.config, task.head
    model = make_model(task)
    descent = Descent(model, config)
    # Under u I the inner problem separates over dimensions, which share one u. As a problem of one
    # dimension, `functional` solves 2-by-2 systems instead of one of 2 D_obs a sample.
    one_dimension = DiagonalGaussianHead(1)
    reward = MahalanobisReward(1, "scalar", initial=config.initial_u * config.temperature)
    loss = PolicyGradientLoss(one_dimension, reward, Analytic(), config.temperature)
    model_fn = as_model_fn(model)

    def by_dimension(outputs: Tensor) -> Tensor:
        return torch.stack([head.mean(outputs), head.log_var(outputs)], dim=-1)

    def training_loss(outputs: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return loss(by_dimension(outputs), reward.outer_params(), x, y)

    problem = FunctionalProblem(
        lambda params, x: by_dimension(model_fn(params, x)),
        loss,
        lambda outputs, _params, _x, y: -one_dimension.log_prob(outputs, y),
        loss.conditional,
        inner_data=(task.training[0], task.training[1][..., None]),
        outer_data=(task.held_out[0], task.held_out[1][..., None]),
    )
    solver = make_solver("functional", compute_stationarity=False)
    outer_update = OuterUpdate(
        dict(reward.named_parameters()), partial(torch.optim.SGD, lr=config.outer_lr), None
    )
    limit = MAX_OUTER_STEP / config.outer_lr
    left = config.num_updates
    while left > 0:
        num_steps = min(config.inner_steps, left)
        left -= num_steps
        descent.run(training_loss, problem.inner_data, num_steps)
        if left > 0:
            inner_params: ParamDict = dict(model.named_parameters())
            result = hypergradient(problem, inner_params, reward.outer_params(), solver)
            outer_update.step({"log_u": result.grad["log_u"].clamp(-limit, limit)})
    return Fitted(model, head, config.num_updates)


METHODS: dict[str, Method] = {
    "mse": Method("MSE", fit_mse),
    "nll": Method("NLL", fit_nll),
    "pg_identity": Method("PG, U = I", partial(fit_fixed_reward, identity_reward)),
    "pg_implicit": Method("PG, U = u I learned implicitly", fit_implicit),
    "pg_trace": Method("PG, U = (λn / 2 tr Cov y) I", partial(fit_fixed_reward, trace_reward)),
    "pg_covariance": Method("PG, U = (λ/2) Cov(y)⁻¹", partial(fit_fixed_reward, covariance_reward)),
    "bilevel": Method("ours, U(x) learned", fit_bilevel),
}
"""In the order of the table. A method of one's own needs an entry here, and nothing else."""


def _train(task: Task, loss: TrainingLoss) -> nn.Sequential:
    model = make_model(task)
    Descent(model, task.config).run(loss, task.training, task.config.num_updates)
    return model
