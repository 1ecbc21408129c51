"""Our rows of tables 1 and 2: a reward between classes that is learned on rows held out.

The inner problem has a solution in closed form, sample by sample: `log p = R q / temperature +
constant`, with R the reward's table and q the conditional shares of the classes. A model that was
trained under `beta I` therefore holds an estimate of q, whatever beta was, and the solution for any
other reward can be read off it. The outer problem is to find the reward whose solution gives rows
that the models were not trained on the highest likelihood.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from mbrl_bilevel.bilevel import FunctionalProblem, Solver, hypergradient, make_solver
from mbrl_bilevel.bilevel.fit_state import OuterUpdate
from mbrl_bilevel.bilevel.policy_gradient import shares_of_classes
from mbrl_bilevel.bilevel.problem import ParamDict
from mbrl_bilevel.config.tables import ClassificationConfig
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.experiments.reproduce.tabular_task import Trained
from mbrl_bilevel.rewards import OneHotReward, Reward, StateDependentOneHotReward, Structure

_MAX_LOG_SCALE = 6.0


@dataclass(frozen=True)
class ReadOff:
    """A learned reward, and what its inner solution is read off from.

    Attributes:
        trained: The models, trained under `beta I`.
        beta: That one.
        reward: The learned reward, float64.
        temperature: Weight of the entropy.
        hypergradient_norm: At the last step of learning it.
        residual: Largest relative residual of the solver on the way; nan: it has none.
    """

    trained: Trained
    beta: float
    reward: OneHotReward
    temperature: float
    hypergradient_norm: float = math.nan
    residual: float = math.nan

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits `[N, C]`, float64, of the inner solution at inputs `[N, D]`."""
        shares = shares_under(self.beta, self.trained(x), self.temperature)
        return inner_solution(self.reward.table(x.double()), shares, self.temperature)


def shares_under(beta: float, logits: Tensor, temperature: float) -> Tensor:
    """Return the shares q `[N, C]`, float64, that logits `[N, C]` stand for under `beta I`."""
    table = OneHotReward(logits.shape[-1], "scalar", beta).double().table().detach()
    return shares_of_classes(table, logits.double(), temperature)


def inner_solution(table: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Return the logits `R q / temperature`, `[N, C]`, for R `[C, C]` or `[N, C, C]`."""
    return (table @ shares[..., None])[..., 0] / temperature


def best_scale(logits: Tensor, y: Tensor, ridge: float) -> tuple[float, float]:
    """Return the best factor of logits `[M, C]` for classes `[M]`, and the mean loss it gives.

    It minimises the NLL plus `ridge / (2 M) log(factor)^2`: the outer problem of a scalar reward,
    whose solution has the logits of the model times `beta / beta_0`.
    """
    logits = logits.double()
    low, high = -_MAX_LOG_SCALE, _MAX_LOG_SCALE
    true = logits.gather(-1, y[:, None])[:, 0]
    for _ in range(40):
        middle = 0.5 * (low + high)
        scaled = math.exp(middle) * logits
        expected = (scaled.softmax(dim=-1) * logits).sum(dim=-1)
        slope = math.exp(middle) * (expected - true).mean().item() + ridge * middle / len(y)
        low, high = (low, middle) if slope > 0 else (middle, high)
    log_scale = 0.5 * (low + high)
    nll = torch.nn.functional.cross_entropy(math.exp(log_scale) * logits, y).item()
    return math.exp(log_scale), nll + 0.5 * ridge * log_scale**2 / len(y)


def learn(
    trained: Trained, beta: float, family: str, solver: str, config: ClassificationConfig
) -> ReadOff:
    """Learn `beta I` by hypergradients, and from there, if another is asked for, the family.

    Args:
        trained: Models that were trained under the reward `beta I`, and rows to judge it by.
        beta: That one.
        family: Of the reward's matrix U.
        solver: Name of the hypergradient solver.
        config: Temperature and outer steps.

    Raises:
        MBRLError: A loss is not finite, or the solver diverged.
    """
    num_classes, lr = trained.logits.shape[-1], config.outer_lr
    scalar = OneHotReward(num_classes, "scalar", beta).double()
    read_off = _learn(trained, beta, scalar, solver, config, config.scale_ridge, lr)
    if family == "scalar":
        return read_off
    learned_beta = scalar.outer_params()["metric.log_u"].exp().item()
    reward: OneHotReward
    if family == "state_dependent":
        size = trained.x.shape[-1]
        reward = StateDependentOneHotReward(num_classes, size, initial=learned_beta)
        # log U(x) is a sum over the inputs, and a step of Adam moves all their weights alike.
        lr /= math.sqrt(size)
    else:
        structure: Structure = "full" if family == "full" else "diagonal"
        reward = OneHotReward(num_classes, structure, learned_beta)
    return _learn(trained, beta, reward.double(), solver, config, config.shape_ridge, lr)


def _learn(
    trained: Trained,
    beta: float,
    reward: OneHotReward,
    solver: str,
    config: ClassificationConfig,
    ridge: float,
    lr: float,
) -> ReadOff:
    """Follow the hypergradient; the inner problem is solved exactly before each step."""
    shares = shares_under(beta, trained.logits, config.temperature)
    problem = reward_problem(reward, trained.x.double(), trained.y, shares, config, ridge)
    chosen = _make_solver(solver, len(shares))
    outer_update = OuterUpdate(
        dict(reward.named_parameters()),
        partial(Adam, lr=lr, betas=(0.8, 0.9)),
        partial(CosineAnnealingLR, T_max=config.outer_steps),
    )
    assert problem.inner_solution is not None
    norm, residuals = math.nan, []
    least, best = math.inf, None
    for _ in range(config.outer_steps):
        outer_params = reward.outer_params()
        solution = problem.inner_solution(outer_params)
        with torch.no_grad():
            value = problem.outer_objective(solution, outer_params).item()
        if value < least:
            least, best = value, {name: p.clone() for name, p in reward.state_dict().items()}
        try:
            with _without_warnings():
                result = hypergradient(problem, solution, outer_params, chosen)
        except MBRLError:
            if math.isfinite(value) or best is None:
                raise
            # A U(x) without bounds ran away: what did best on the rows held out is kept.
            reward.load_state_dict(best)
            break
        norm = math.sqrt(sum(grad.square().sum().item() for grad in result.grad.values()))
        residuals.append(result.residual)
        outer_update.step(result.grad)
    return ReadOff(trained, beta, reward, config.temperature, norm, max(residuals))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Where a class is all but certain the inner optimum is flat to rounding, at every step."""
    logger = logging.getLogger(hypergradient.__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def reward_problem(
    reward: OneHotReward,
    x: Tensor,
    y: Tensor,
    shares: Tensor,
    config: ClassificationConfig,
    ridge: float,
) -> FunctionalProblem:
    """Return the bilevel problem over functions: the inner parameters are the logits themselves.

    Those of all classes but the last, whose logit is zero: `{"logits": [M, C - 1]}`. So the inner
    objective is strictly convex, which it is not in C logits.

    Args:
        reward: Its parameters are the outer ones.
        x: Inputs `[M, D]`.
        y: Their classes `[M]`.
        shares: q, `[M, C]`.
        config: The temperature.
        ridge: Of the penalty `ridge / (2 M)` on squared steps from the reward as it is.
    """
    temperature = config.temperature
    start = reward.outer_params()

    def table_at(x: Tensor) -> Callable[[Reward], Tensor]:
        def table(reward: Reward) -> Tensor:
            assert isinstance(reward, OneHotReward)
            return reward.table(x)

        return table

    def inner_loss(outputs: Tensor, outer_params: ParamDict, x: Tensor, q: Tensor) -> Tensor:
        table = reward.using(outer_params, table_at(x))
        log_probs = _all_logits(outputs).log_softmax(dim=-1)
        gains = (table @ q[..., None])[..., 0] - temperature * log_probs
        return -(log_probs.exp() * gains).sum(dim=-1)

    def conditional(outputs: Tensor, outer_params: ParamDict, x: Tensor, _: Tensor) -> Tensor:
        return inner_loss(outputs, outer_params, x, shares)

    def outer_loss(outputs: Tensor, outer_params: ParamDict, x: Tensor, y: Tensor) -> Tensor:
        del x
        steps = sum((outer_params[name] - start[name]).square().sum() for name in start)
        nll = torch.nn.functional.cross_entropy(_all_logits(outputs), y, reduction="none")
        return nll + 0.5 * ridge / len(y) * steps

    def solution(outer_params: ParamDict) -> ParamDict:
        table = reward.using(outer_params, table_at(x))
        logits = inner_solution(table, shares, temperature)
        return {"logits": logits[..., :-1] - logits[..., -1:]}

    return FunctionalProblem(
        lambda params, _: params["logits"],
        inner_loss,
        outer_loss,
        conditional,
        inner_data=(x, shares),
        outer_data=(x, y),
        inner_solution=solution,
    )


def _all_logits(outputs: Tensor) -> Tensor:
    return torch.nn.functional.pad(outputs, (0, 1))


def _make_solver(name: str, num_rows: int) -> Solver:
    """Return the solver, set for an inner Hessian whose eigenvalues are at most 1 / (2 M)."""
    settings: dict[str, dict[str, Any]] = {
        "functional": {"compute_stationarity": False},
        "cg": {"max_steps": 50},
        "neumann": {"num_terms": 100},
        "nystrom": {"rank": 100},
        "unrolled": {"num_steps": 50, "lr": float(num_rows)},
    }
    return make_solver(name, **settings.get(name, {}))
