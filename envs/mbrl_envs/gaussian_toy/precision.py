"""The matrix U of the toy's reward: given, by a rule, optimal, or learned."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards import MahalanobisReward, Reward
from mbrl_bilevel.rewards.mahalanobis import QuadraticReward
from mbrl_envs.gaussian_toy.distribution import Matrices, ToyDistribution, Vectors
from mbrl_envs.one_step import constant_u, trace_u

UFn = Callable[[Vectors], Matrices]
"""U: inputs `[N, D_x]` -> `[N, D, D]`, or `[1, D, D]` if it is the same for all."""

RULES = ("optimal", "identity", "trace", "covariance")


def make_u_fn(
    u: str | ArrayLike | Reward, distribution: ToyDistribution, temperature: float
) -> UFn:
    """Return U as a function of the inputs.

    Args:
        u: `"optimal"`: `(temperature / 2) S(x)^{-1}`, with S the noise's covariance, whose inner
            optimum is the true distribution. The paper's rules, with Cov(y) the marginal
            covariance: `"identity"`; `"trace"`: `(temperature D / 2 tr Cov(y)) I`;
            `"covariance"`: `(temperature / 2) Cov(y)^{-1}`. A number, a diagonal `[D]`, a matrix
            `[D, D]`, or a reward, of which a copy is taken.
        distribution: Of inputs and targets.
        temperature: The entropy's weight that a rule is for.

    Raises:
        ConfigError: It is none of these, or of another size.
    """
    if isinstance(u, Reward):
        return _of_reward(u, distribution)
    if isinstance(u, str):
        if u == "optimal":
            return lambda x: temperature / 2 * np.linalg.inv(distribution.covariance(x))
        matrix = _by_rule(u, distribution, temperature)
    else:
        matrix = constant_u(u, distribution.target_size, RULES)
    return lambda _: matrix[None]


def _by_rule(rule: str, distribution: ToyDistribution, temperature: float) -> Matrices:
    if rule == "identity":
        return np.eye(distribution.target_size)
    if rule == "trace":
        return trace_u(distribution.marginal_covariance, temperature)
    if rule == "covariance":
        return temperature / 2 * np.linalg.inv(distribution.marginal_covariance)
    raise ConfigError(
        f"u={rule!r}; allowed: {', '.join(RULES)}, a number, a diagonal, a matrix, or a reward"
    )


def _of_reward(reward: Reward, distribution: ToyDistribution) -> UFn:
    if not isinstance(reward, QuadraticReward):
        raise ConfigError(
            f"u is a {type(reward).__name__}, which has no matrix U; allowed: MahalanobisReward, "
            "StateDependentReward"
        )
    if isinstance(reward, MahalanobisReward) and reward.num_members is not None:
        raise ConfigError(f"u is a reward of {reward.num_members} members; allowed: one of one")
    if reward.target_size != distribution.target_size:
        raise ConfigError(
            f"u is a reward of {reward.target_size} targets; this environment has "
            f"{distribution.target_size}"
        )
    # What goes on learning must not change an environment under its agent.
    fixed = copy.deepcopy(reward).requires_grad_(False)
    dtype = next(fixed.parameters()).dtype

    def u_fn(x: Vectors) -> Matrices:
        matrix = fixed.precision(torch.as_tensor(x, dtype=dtype)).matrix().double().numpy()
        return matrix.reshape(-1, *matrix.shape[-2:])

    try:
        u_fn(distribution.points[:1])
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"u is a reward that does not take inputs of size {distribution.input_size}: {error}"
        ) from None
    return u_fn
