"""The toy as an environment."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mbrl_bilevel.rewards import Reward
from mbrl_envs.gaussian_toy.distribution import Matrices, MeanFn, NoiseFn, Vectors
from mbrl_envs.gaussian_toy.plot import plot_errors
from mbrl_envs.gaussian_toy.problem import make_gaussian_problem
from mbrl_envs.one_step import OneStepEnv


class GaussianToyEnv(OneStepEnv):
    """
    ## Description

    Training a model is reinforcement learning: the model is the policy, its prediction is the
    action. The agent sees x and predicts the target `y = m(x) + noise`. The reward is the squared
    Mahalanobis distance of the two, with a matrix U. A policy that maximises the expected reward
    plus `temperature` times its own entropy is `N(m(x), (temperature / 2) U(x)^{-1})`: with the
    optimal U the true distribution of y, so that the reward has replaced the likelihood. With the
    default arguments this is section 5.2 of Benechehab et al., "From Data to Rewards: a Bilevel
    Optimization Perspective on Maximum Likelihood Estimation" (2025): `y = x + 6 + 1.25 eps`.

    `env.unwrapped` has the facts: `entropy` (the lowest negative log-likelihood there is, in nats),
    `conditional_mean(x)`, `noise_covariance(x)`, `u(x)` and `optimal_policy(x)`.

    An agent's entropy coefficient has to be the temperature, and its advantages must not be
    normalised, which would change the ratio of the two: `ent_coef=1.0, normalize_advantage=False`
    for PPO of Stable-Baselines3.

    ## Action Space

    The action is a `ndarray` with shape `(2,)` and dtype `float32`: the prediction of y itself, in
    its units, so that a policy's log-density at y is the model's log-likelihood. The bounds are
    there for agents that need some. They lie five standard deviations, of the noise or of the
    optimal policy, beyond the outermost means; values beyond them are judged as they are. Agents
    that work best in *[-1, 1]* take `gymnasium.wrappers.RescaleAction`.

    | Num | Action           | Min  | Max  |
    |-----|------------------|------|------|
    | 0   | Prediction of y0 | -6.0 | 18.0 |
    | 1   | Prediction of y1 | -6.0 | 18.0 |

    ## Observation Space

    The observation is a `ndarray` with shape `(2,)` and dtype `float32`.

    | Num | Observation | Min  | Max |
    |-----|-------------|------|-----|
    | 0   | Input x0    | -5.0 | 5.0 |
    | 1   | Input x1    | -5.0 | 5.0 |

    ## Rewards

    `-(y_hat - y)^T U(x) (y_hat - y)`, which is at most 0. `info["y"]` holds y after the step.

    ## Starting State

    x is drawn uniformly from *[-5, 5]* in each dimension, and y given x.

    ## Episode End

    - Termination: after the first step, always. The last observation is x again.
    - Truncation: never.

    ## Arguments

    | Argument      | Default      | Meaning                                                       |
    |---------------|--------------|---------------------------------------------------------------|
    | `dim`         | `2`          | Number of inputs                                              |
    | `mean`        | `"shift"`    | `"shift"`: `x + 6`; `"sine"`: `6 + 5 sin(x)`; or a function   |
    |               |              | `[N, D_x] -> [N, D]`                                          |
    | `noise`       | `"constant"` | `"constant"`: standard deviation 1.25; `"correlated"`: that,  |
    |               |              | with correlations of 0.8; `"heteroscedastic"`:                |
    |               |              | `1.25 exp(x_i / x_limit)`; standard deviations (a number or   |
    |               |              | `[D]`); a covariance `[D, D]`; or a function that gives       |
    |               |              | standard deviations, `[N, D_x] -> [N, D]`                     |
    | `u`           | `"optimal"`  | `"optimal"`: `(temperature / 2) S(x)^{-1}` with the noise's   |
    |               |              | covariance S; `"identity"`; `"trace"` and `"covariance"`, the |
    |               |              | paper's rules by the covariance of y; a number, a diagonal    |
    |               |              | `[D]` or a matrix `[D, D]`; or a learned `MahalanobisReward`  |
    |               |              | or `StateDependentReward`, of which a copy is taken           |
    | `temperature` | `1.0`        | The weight of the policy's entropy that U is for              |
    | `x_limit`     | `5.0`        | Largest input                                                 |
    | `render_mode` | `None`       | `None`; `"ansi"`, the last prediction; or `"rgb_array"`, the  |
    |               |              | errors of the latest 200                                      |

    What cannot be used raises `mbrl_bilevel.errors.ConfigError`.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("mbrl_envs:GaussianToy-v0", noise="correlated", u="optimal")
    >>> env
    <OrderEnforcing<PassiveEnvChecker<GaussianToyEnv<GaussianToy-v0>>>>
    >>> envs = gym.make_vec("mbrl_envs:GaussianToy-v0", num_envs=1000)
    >>> envs
    GaussianToyVectorEnv(GaussianToy-v0, num_envs=1000)

    ```

    ## Version History

    * v0: Initial version.
    """

    def __init__(
        self,
        dim: int = 2,
        mean: str | MeanFn = "shift",
        noise: str | ArrayLike | NoiseFn = "constant",
        u: str | ArrayLike | Reward = "optimal",
        temperature: float = 1.0,
        x_limit: float = 5.0,
        render_mode: str | None = None,
    ) -> None:
        self.problem = make_gaussian_problem(dim, mean, noise, u, temperature, x_limit)
        super().__init__(self.problem, render_mode)

    @property
    def entropy(self) -> float:
        """Entropy of y given x, averaged over x, in nats."""
        return self.problem.distribution.entropy

    def conditional_mean(self, x: ArrayLike) -> Vectors:
        """Return `E[y|x]` `[N, D]` for inputs `[N, D_x]`."""
        return self.problem.distribution.mean(x)

    def noise_covariance(self, x: ArrayLike) -> Matrices:
        """Return the covariance of y given x, `[N, D, D]`."""
        return self._for_each(x, self.problem.distribution.covariance(x))

    def u(self, x: ArrayLike) -> Matrices:
        """Return the reward's matrix at x, `[N, D, D]`."""
        return self._for_each(x, self.problem.u_fn(np.asarray(x, dtype=np.float64)))

    def optimal_policy(self, x: ArrayLike) -> tuple[Vectors, Matrices]:
        """Return mean `[N, D]` and covariance `[N, D, D]` of the policy that is best at x."""
        return self.problem.optimal_policy(x)

    def _describe(self, action: Any, target: Any, reward: float) -> str:
        numbers = [np.array2string(np.asarray(v), precision=3) for v in (action, target)]
        return f"predicted {numbers[0]}  target {numbers[1]}  reward {reward:.4g}\n"

    def _plot(self, figure: Figure, predictions: list[tuple[Any, Any, float]]) -> None:
        plot_errors(figure, predictions, self.problem)

    def _for_each(self, x: ArrayLike, matrices: Matrices) -> Matrices:
        return np.broadcast_to(matrices, (len(np.asarray(x)), *matrices.shape[1:]))
