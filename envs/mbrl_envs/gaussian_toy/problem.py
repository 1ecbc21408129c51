"""Predicting a Gaussian target, paid by its squared Mahalanobis distance."""

from dataclasses import dataclass, replace

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards import Reward
from mbrl_envs.gaussian_toy.distribution import Matrices, MeanFn, NoiseFn, ToyDistribution, Vectors
from mbrl_envs.gaussian_toy.named import make_factor_fn, make_mean_fn
from mbrl_envs.gaussian_toy.precision import UFn, make_u_fn
from mbrl_envs.one_step import Array, check_temperature

BOUND_STDS = 5.0
"""Standard deviations between the outermost mean and the action space's bounds."""


@dataclass(frozen=True)
class GaussianProblem:
    """A `OneStepProblem`: `reward = -(y_hat - y)^T U(x) (y_hat - y)`.

    Attributes:
        distribution: Of inputs and targets.
        u_fn: U.
        temperature: The entropy's weight under which the optimal policy is optimal.
        observation_space: Of x.
        action_space: Of y_hat.
    """

    distribution: ToyDistribution
    u_fn: UFn
    temperature: float
    observation_space: spaces.Box
    action_space: spaces.Box

    def sample(self, rng: np.random.Generator, num: int) -> tuple[Array, Array]:
        return self.distribution.sample(rng, num)

    def check_actions(self, actions: Array) -> Array:
        shape = self.action_space.shape
        if actions.shape[1:] != shape or not np.issubdtype(actions.dtype, np.number):
            raise ValueError(
                f"actions of shape {list(actions.shape[1:])} and type {actions.dtype}; they must "
                f"be numbers of shape {list(shape)}"
            )
        if not np.isfinite(actions).all():
            raise ValueError(f"action {actions[~np.isfinite(actions)][0]}; it must be finite")
        return actions.astype(np.float64)

    def reward(self, actions: Array, targets: Array, obs: Array) -> NDArray[np.float64]:
        errors = actions - targets
        weighted = self.u_fn(np.asarray(obs, dtype=np.float64)) @ errors[..., None]
        reward: NDArray[np.float64] = -(errors * weighted[..., 0]).sum(axis=-1)
        return reward

    def infos(self, actions: Array, targets: Array) -> dict[str, Array]:
        del actions
        return {"y": targets.copy()}

    def optimal_policy(self, x: ArrayLike) -> tuple[Vectors, Matrices]:
        """Return mean `[N, D]` and covariance `[N, D, D]` of the policy that is best at x.

        It maximises the expected reward plus `temperature` times its entropy:
        `N(E[y|x], (temperature / 2) U(x)^{-1})`.
        """
        inputs = np.asarray(x, dtype=np.float64)
        mean = self.distribution.mean(inputs)
        covariance = self.temperature / 2 * np.linalg.inv(self.u_fn(inputs))
        return mean, np.broadcast_to(covariance, (len(mean), *covariance.shape[1:]))


def make_gaussian_problem(
    dim: int,
    mean: str | MeanFn,
    noise: str | ArrayLike | NoiseFn,
    u: str | ArrayLike | Reward,
    temperature: float,
    x_limit: float,
) -> GaussianProblem:
    """Return the problem; the arguments are those of `GaussianToyEnv`."""
    if not isinstance(dim, int) or dim < 1:
        raise ConfigError(f"dim={dim!r}; it must be an integer of at least 1")
    if not (np.isfinite(x_limit) and x_limit > 0):
        raise ConfigError(f"x_limit={x_limit!r}; it must be positive and finite")
    check_temperature(temperature)
    mean_fn = make_mean_fn(mean)
    target_size = ToyDistribution(dim, x_limit, mean_fn, lambda _: np.eye(1)[None]).target_size
    distribution = ToyDistribution(
        dim, x_limit, mean_fn, make_factor_fn(noise, target_size, x_limit)
    )
    problem = GaussianProblem(
        distribution,
        make_u_fn(u, distribution, temperature),
        temperature,
        spaces.Box(-x_limit, x_limit, (dim,), np.float32),
        spaces.Box(-1.0, 1.0, (target_size,), np.float32),
    )
    return replace(problem, action_space=_action_space(problem))


def _action_space(problem: GaussianProblem) -> spaces.Box:
    """Wide enough for the true distribution and for the optimal policy, rounded to integers."""
    points = problem.distribution.points
    means, policy = problem.optimal_policy(points)
    covariances = np.concatenate([policy, problem.distribution.covariance(points)])
    margin = BOUND_STDS * np.sqrt(covariances.diagonal(axis1=1, axis2=2).max(axis=0))
    return spaces.Box(
        np.floor(means.min(axis=0) - margin).astype(np.float32),
        np.ceil(means.max(axis=0) + margin).astype(np.float32),
        dtype=np.float32,
    )
