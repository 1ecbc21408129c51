"""Training of a model: by a fixed loss, or by a reward that is learned at the same time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mbrl_bilevel.bilevel import (
    FunctionalProblem,
    PolicyGradientLoss,
    Solver,
    as_model_fn,
    hypergradient,
)
from mbrl_bilevel.bilevel.fit_state import OuterUpdate
from mbrl_bilevel.bilevel.hvp import stationarity
from mbrl_bilevel.bilevel.inner_loop import InnerLoop
from mbrl_bilevel.config.reproduce import SyntheticConfig
from mbrl_bilevel.estimators import Analytic
from mbrl_bilevel.experiments.reproduce.synthetic import (
    TARGET_SIZE,
    StandardisedMLP,
    SyntheticData,
)
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.rewards import MahalanobisReward

HEAD = DiagonalGaussianHead(TARGET_SIZE)
BETAS = (0.7, 0.99)
"""Adam's: less momentum than usual, so that the model follows the reward within a block."""
FINAL_LR = 0.02
"""Of the inner learning rate, what is left at the end."""

MAX_OUTER_STEP = 2.0
"""The most by which a step changes log u. No default setting comes near it; a solver that is asked
for too little (a sketch of rank 3, say) may return a hypergradient of a hundred times the size."""

SampleLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(outputs [N, 4], x [N, 2], y [N, 2]) -> [N]`."""


@dataclass(frozen=True)
class RewardStep:
    """One hypergradient.

    Attributes:
        u: The reward's scalar, at which it was taken.
        outer_loss: Held-out NLL of the model that this reward has led to, in nats a sample.
        hypergradient: `d outer_loss / d log u`.
        residual: Relative residual of the solver's linear system; nan for `unrolled`.
        num_hvps: Hessian-vector products it took.
        negative_curvature: The inner Hessian was seen not to be positive definite.
    """

    u: float
    outer_loss: float
    hypergradient: float
    residual: float
    num_hvps: int
    negative_curvature: bool


@dataclass(frozen=True)
class LearnedReward:
    """A reward and a model, learned together.

    Attributes:
        model: At the end, for the last reward.
        u: The last reward's scalar.
        history: The steps that led there.
        stationarity: Norm of the inner gradient at the end, in all parameters of the model.
        wall_time_s: Seconds from the untrained model to the end.
    """

    model: StandardisedMLP
    u: float
    history: list[RewardStep]
    stationarity: float
    wall_time_s: float


def train_model(
    model: StandardisedMLP, loss: SampleLoss, data: SyntheticData, config: SyntheticConfig
) -> None:
    """Train by a fixed loss, for as many steps and as fast as `learn_reward` does."""
    x, y = data.training
    optimizer = _inner_optimizer(list(model.parameters()), config)
    schedule = _inner_schedule(optimizer, config)
    for _ in range(_num_inner_steps(config)):
        optimizer.zero_grad()
        loss(model(x), x, y).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def learn_reward(
    model: StandardisedMLP,
    data: SyntheticData,
    config: SyntheticConfig,
    temperature: float,
    solver: Solver,
    all_parameters: bool = False,
) -> LearnedReward:
    """Learn a scalar reward `U = u I` and, warm-started, the model that maximises it.

    The inner optimiser moves all parameters. Solvers that need Hessians see the last layer alone,
    unless `all_parameters`: in it the inner problem is convex, and it holds the whole derivative of
    the inner solution, which moves all log-variances alike. The Hessian in all parameters is
    indefinite but at an exact minimum, and products with it take about three times as long.
    `functional` needs no parameters at all.
    """
    start = perf_counter()
    # Only u / temperature matters: started in proportion, it takes the same path at any of them.
    initial_u = config.initial_u * temperature
    reward = MahalanobisReward(TARGET_SIZE, "scalar", initial=initial_u)
    loss = PolicyGradientLoss(HEAD, reward, Analytic(), temperature)
    problem = FunctionalProblem(
        as_model_fn(model),
        loss,
        lambda outputs, _params, _x, y: -HEAD.log_prob(outputs, y),
        loss.conditional,
        inner_data=data.training,
        outer_data=data.held_out,
    )
    inner_loop = InnerLoop(
        model,
        loss,
        natural_gradient=0.0,
        data=data.training,
        batch_size=None,
        optimizer_fn=partial(_inner_optimizer, config=config),
        schedule_fn=partial(_inner_schedule, config=config),
        generator=torch.Generator(),
    )
    outer_update = OuterUpdate(
        dict(reward.named_parameters()),
        partial(torch.optim.SGD, lr=config.outer_lr),
        partial(LambdaLR, lr_lambda=lambda step: float(step >= config.warm_up_steps)),
    )
    seen: dict[str, Tensor] = model.last_layer()
    if all_parameters:
        seen = dict(model.named_parameters())
    history = []
    for _ in range(config.num_outer_steps):
        outer_params = reward.outer_params()
        inner_loop.run(config.inner_steps, outer_params)
        result = hypergradient(problem, seen, outer_params, solver)
        limit = MAX_OUTER_STEP / config.outer_lr
        outer_update.step({"log_u": result.grad["log_u"].clamp(-limit, limit)})
        history.append(
            RewardStep(
                u=outer_params["log_u"].exp().item(),
                outer_loss=result.outer_loss,
                hypergradient=result.grad["log_u"].item(),
                residual=result.residual,
                num_hvps=result.num_hvps,
                negative_curvature=result.negative_curvature,
            )
        )
    wall_time_s = perf_counter() - start
    outer_params = reward.outer_params()
    return LearnedReward(
        model=model,
        u=outer_params["log_u"].exp().item(),
        history=history,
        stationarity=stationarity(problem, dict(model.named_parameters()), outer_params),
        wall_time_s=wall_time_s,
    )


def _num_inner_steps(config: SyntheticConfig) -> int:
    return config.num_outer_steps * config.inner_steps


def _inner_optimizer(params: list[nn.Parameter], config: SyntheticConfig) -> Optimizer:
    return Adam(params, lr=config.inner_lr, betas=BETAS, fused=True)


def _inner_schedule(optimizer: Optimizer, config: SyntheticConfig) -> LambdaLR:
    """From the whole learning rate to the share `FINAL_LR` of it, by half a cosine."""
    num_steps = _num_inner_steps(config)

    def share(step: int) -> float:
        falling = 0.5 * (1 + math.cos(math.pi * min(step / num_steps, 1)))
        return FINAL_LR + (1 - FINAL_LR) * falling

    return LambdaLR(optimizer, share)
