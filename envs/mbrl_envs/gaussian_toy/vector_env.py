"""The toy, many samples at once."""

from numpy.typing import ArrayLike

from mbrl_bilevel.rewards import Reward
from mbrl_envs.gaussian_toy.distribution import MeanFn, NoiseFn
from mbrl_envs.gaussian_toy.problem import make_gaussian_problem
from mbrl_envs.one_step import OneStepVectorEnv


class GaussianToyVectorEnv(OneStepVectorEnv):
    """N of `GaussianToyEnv`, whose arguments it takes, in one batch."""

    def __init__(
        self,
        num_envs: int = 1,
        dim: int = 2,
        mean: str | MeanFn = "shift",
        noise: str | ArrayLike | NoiseFn = "constant",
        u: str | ArrayLike | Reward = "optimal",
        temperature: float = 1.0,
        x_limit: float = 5.0,
    ) -> None:
        self.problem = make_gaussian_problem(dim, mean, noise, u, temperature, x_limit)
        super().__init__(self.problem, num_envs)
