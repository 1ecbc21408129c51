"""A linear system whose reward sees one dimension, under a model that has room for one."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mbrl_bilevel.bilevel import BilevelProblem, ReturnError, held_out_nll
from mbrl_bilevel.bilevel.problem import ObjectiveFn
from mbrl_bilevel.heads import DiagonalGaussianHead
from tests.gradients.cases import Case, Params

NUM_IRRELEVANT = 9
SIZE = 1 + NUM_IRRELEVANT
HEAD = DiagonalGaussianHead(SIZE)
NUM_STEPS = 3
DECAY = 1e-3
"""Of the inner problem; without it the two factors could be scaled against each other."""


class Trajectories(NamedTuple):
    obs: Tensor
    actions: Tensor

    def transitions(self) -> tuple[Tensor, Tensor]:
        """`(x [N k, D + 1], next_obs [N k, D])`."""
        x = torch.cat([self.obs[:, :-1], self.actions], dim=-1).flatten(0, 1)
        return x, self.obs[:, 1:].flatten(0, 1)


def trajectories(seed: int, num: int = 100) -> Trajectories:
    """Dimension 0 follows itself and the action; all others follow one mixture of everything."""
    options: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(seed),
        "dtype": torch.float64,
    }
    dynamics = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    dynamics[0, 0] = 0.8
    dynamics[1:, 0] = 0.2
    dynamics[1:, 1:] = 0.8 / math.sqrt(NUM_IRRELEVANT)
    actions = torch.randn(num, NUM_STEPS, 1, **options)
    obs = [torch.randn(num, SIZE, **options)]
    for t in range(NUM_STEPS):
        following = obs[-1] @ dynamics.T + 0.1 * torch.randn(num, SIZE, **options)
        following[:, 0] += 0.5 * actions[:, t, 0]
        obs.append(following)
    return Trajectories(torch.stack(obs, dim=1), actions)


def rank_one(theta: Params, x: Tensor) -> Tensor:
    """The mean of the next observation from one number about `(obs, action)`; its variances."""
    mean = (x @ theta["encoder"])[:, None] * theta["decoder"]
    return torch.cat([mean, theta["log_var"].expand_as(mean)], dim=-1)


def reward_of_dimension_0(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    del obs, action
    return next_obs[:, 0]


def next_obs_step(predict: Any, obs: Tensor, action: Tensor) -> Tensor:
    outputs: Tensor = predict(torch.cat([obs, action], dim=-1))
    return outputs


def outer_objective(kind: str, data: Trajectories) -> ObjectiveFn:
    """`return`, `nll` or `mse`, of held-out data."""
    if kind == "return":
        return ReturnError(
            rank_one, HEAD, *data, reward_of_dimension_0, normalise=True, step_fn=next_obs_step
        )
    x, y = data.transitions()
    if kind == "nll":
        return held_out_nll(rank_one, HEAD, (x, y))
    return lambda theta, _: (HEAD.mean(rank_one(theta, x)) - y).square().mean()


def relevance(kind: str, seed: int = 0) -> Case:
    """The inner problem of a diagonal U, from equal weights, for an outer objective."""
    x, y = trajectories(2 * seed).transitions()

    def inner(theta: Params, phi: Params) -> Tensor:
        outputs = rank_one(theta, x)
        errors = (HEAD.mean(outputs) - y).square() + HEAD.log_var(outputs).exp()
        expected_reward = -(phi["log_u"].exp() * errors).sum(dim=-1)
        penalty = theta["encoder"].square().sum() + theta["decoder"].square().sum()
        return -(expected_reward + HEAD.entropy(outputs)).mean() + DECAY * penalty

    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    start = {
        "encoder": 0.3 * torch.randn(SIZE + 1, **options),
        "decoder": 0.3 * torch.randn(SIZE, **options),
        "log_var": torch.zeros(SIZE, dtype=torch.float64),
    }
    problem = BilevelProblem(inner, outer_objective(kind, trajectories(2 * seed + 1)))
    log_u = torch.zeros(SIZE, dtype=torch.float64)
    return Case(f"relevance_{kind}", problem, start, {"log_u": log_u})
