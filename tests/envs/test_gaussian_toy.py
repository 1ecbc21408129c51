"""GaussianToy-v0: rewards, and the facts about its distribution, against closed forms."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards import MahalanobisReward, NeuralReward, StateDependentReward
from mbrl_envs.gaussian_toy import GaussianToyEnv

LOG_2PI_E = math.log(2 * math.pi * math.e)
VARIANCE = 1.25**2
COVARIANCE = VARIANCE * np.array([[1.0, 0.8], [0.8, 1.0]])
X = np.array([[-5.0, 0.0], [1.0, 2.0], [3.0, -4.0]])


def rewards(env: GaussianToyEnv, num: int) -> list[tuple[Any, Any, Any, float]]:
    """x, y_hat, y and reward of predictions."""
    env.action_space.seed(0)
    env.reset(seed=0)
    found = []
    for _ in range(num):
        env.reset()
        y_hat = env.action_space.sample()
        x, reward, _, _, info = env.step(y_hat)
        found.append((x, y_hat, info["y"], reward))
    return found


def test_the_defaults_are_the_papers() -> None:
    env = GaussianToyEnv()
    np.testing.assert_allclose(env.conditional_mean(X), X + 6.0)
    np.testing.assert_allclose(env.noise_covariance(X), [VARIANCE * np.eye(2)] * 3)
    np.testing.assert_allclose(env.u(X), [0.32 * np.eye(2)] * 3)
    assert env.entropy == pytest.approx(LOG_2PI_E + 2 * math.log(1.25), abs=1e-12)
    assert env.observation_space == gym.spaces.Box(-5.0, 5.0, (2,), np.float32)
    # The mean lies in [1, 11]; 5 standard deviations of 1.25 beyond it.
    assert env.action_space == gym.spaces.Box(-6.0, 18.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("u", "matrix"),
    [
        (0.5, [[0.5, 0.0], [0.0, 0.5]]),
        ([1.0, 3.0], [[1.0, 0.0], [0.0, 3.0]]),
        ([[2.0, 0.7], [0.7, 1.0]], [[2.0, 0.7], [0.7, 1.0]]),
        ("identity", np.eye(2)),
    ],
)
def test_reward(u: Any, matrix: Any) -> None:
    env = GaussianToyEnv(u=u)
    for _, y_hat, y, reward in rewards(env, 20):
        error = np.float64(y_hat) - np.float64(y)
        expected = -sum(
            error[i] * np.asarray(matrix)[i][j] * error[j] for i in range(2) for j in range(2)
        )
        assert reward == pytest.approx(expected, rel=1e-12)


def test_actions_beyond_the_bounds_are_judged_as_they_are() -> None:
    env = GaussianToyEnv(u=1.0)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([100.0, 0.0]))
    errors = np.array([100.0, 0.0]) - info["y"]
    assert reward == pytest.approx(-float(errors @ errors))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_rules_of_the_paper(temperature: float) -> None:
    def u(rule: str) -> Any:
        return GaussianToyEnv(noise="correlated", u=rule, temperature=temperature).u(X[:1])[0]

    marginal = 10.0**2 / 12 * np.eye(2) + COVARIANCE
    trace = temperature * 2 / (2 * np.trace(marginal)) * np.eye(2)
    np.testing.assert_allclose(u("trace"), trace, rtol=1e-3)
    covariance = temperature / 2 * np.linalg.inv(marginal)
    np.testing.assert_allclose(u("covariance"), covariance, rtol=1e-3, atol=1e-5)
    optimal = temperature / 2 * np.linalg.inv(COVARIANCE)
    np.testing.assert_allclose(u("optimal"), optimal, rtol=1e-12)


@pytest.mark.parametrize("noise", ["constant", "correlated", "heteroscedastic"])
def test_the_optimal_u_leads_to_the_true_distribution(noise: str) -> None:
    env = GaussianToyEnv(noise=noise, mean="sine", temperature=0.7)
    mean, covariance = env.optimal_policy(X)
    np.testing.assert_allclose(mean, 6.0 + 5.0 * np.sin(X))
    np.testing.assert_allclose(covariance, env.noise_covariance(X), rtol=1e-9)


def test_the_optimal_policy_maximises_reward_and_entropy() -> None:
    """No Gaussian nearby is worth more, by the closed form of the expected reward."""
    u = np.array([[2.0, 0.5], [0.5, 1.0]])
    temperature = 0.4
    env = GaussianToyEnv(u=u, temperature=temperature, noise="correlated")
    mean, covariance = (array[0] for array in env.optimal_policy(X[:1]))

    def objective(m: Any, s: Any) -> float:
        bias = m - (X[0] + 6.0)
        expected = -(bias @ u @ bias) - np.trace(u @ (s + COVARIANCE))
        return float(expected + temperature * 0.5 * np.linalg.slogdet(s)[1])

    best = objective(mean, covariance)
    rng = np.random.default_rng(0)
    for _ in range(50):
        bump = 0.05 * rng.standard_normal((2, 2))
        assert objective(mean + 0.05 * rng.standard_normal(2), covariance) < best
        factor = np.eye(2) + bump
        assert objective(mean, factor @ covariance @ factor.T) < best


@pytest.mark.parametrize(
    ("noise", "entropy", "tolerance"),
    [
        ("correlated", LOG_2PI_E + 0.5 * math.log(np.linalg.det(COVARIANCE)), 1e-12),
        # The logarithms of the standard deviations are linear in x, whose mean is 0.
        ("heteroscedastic", LOG_2PI_E + 2 * math.log(1.25), 1e-9),
        (0.5, LOG_2PI_E + 2 * math.log(0.5), 1e-12),
        ([0.5, 2.0], LOG_2PI_E, 1e-12),
        ([[1.0, 0.5], [0.5, 1.0]], LOG_2PI_E + 0.5 * math.log(0.75), 1e-12),
        # E log |x + 6| over U(-5, 5), by hand: (11 log 11 - 11 - (log 1 - 1)) / 10 a dimension.
        (lambda x: x + 6.0, LOG_2PI_E + 2 * (11 * math.log(11) - 10) / 10, 1e-6),
    ],
)
def test_entropy(noise: Any, entropy: float, tolerance: float) -> None:
    assert GaussianToyEnv(noise=noise).entropy == pytest.approx(entropy, abs=tolerance)


@pytest.mark.parametrize("noise", ["constant", "correlated", "heteroscedastic"])
def test_samples_have_the_moments_that_are_stated(noise: str) -> None:
    env = GaussianToyEnv(noise=noise, mean="sine")
    num = 50_000
    x, y = env.problem.sample(np.random.default_rng(0), num)
    assert x in gym.spaces.Box(-5.0, 5.0, (num, 2), np.float32)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=0.06)
    np.testing.assert_allclose(x.var(axis=0), 10.0**2 / 12, rtol=0.02)
    whitened = np.linalg.solve(
        np.linalg.cholesky(env.noise_covariance(x)), (y - env.conditional_mean(x))[..., None]
    )[..., 0]
    np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=0.02)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(2), atol=0.02)
    np.testing.assert_allclose(np.cov(y.T), env.problem.distribution.marginal_covariance, atol=0.3)


def test_inputs_and_targets_may_differ_in_number() -> None:
    env = GaussianToyEnv(dim=3, mean=lambda x: x[:, :1] * x[:, 1:2], x_limit=2.0)
    assert env.observation_space.shape == (3,)
    assert env.action_space.shape == (1,)
    x, _, y, _ = rewards(env, 1)[0]
    assert abs(y[0] - x[0] * x[1]) < 6.0


class TestLearned:
    def test_a_matrix_of_its_own(self) -> None:
        reward = MahalanobisReward(2, "full", torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
        env: Any = gym.make("mbrl_envs:GaussianToy-v0", u=reward).unwrapped
        for _, y_hat, y, paid in rewards(env, 5):
            expected = reward(torch.as_tensor(y_hat), torch.as_tensor(y)).item()
            assert paid == pytest.approx(expected, rel=1e-5)

    def test_one_that_depends_on_the_state(self) -> None:
        reward = StateDependentReward(2, 2, "full", hidden_sizes=(8,), seed=3)
        for parameter in reward.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
        env = GaussianToyEnv(u=reward)
        assert not np.allclose(env.u(X)[0], env.u(X)[1])
        for x, y_hat, y, paid in rewards(env, 5):
            tensors = (torch.as_tensor(array) for array in (y_hat, y, x))
            assert paid == pytest.approx(reward(*tensors).item(), rel=1e-4)

    def test_it_is_as_it_was_when_the_environment_was_made(self) -> None:
        reward = MahalanobisReward(2, "scalar", 0.5)
        env = GaussianToyEnv(u=reward)
        with torch.no_grad():
            reward.log_u.add_(1.0)
        np.testing.assert_allclose(env.u(X), [0.5 * np.eye(2)] * 3, rtol=1e-6)

    @pytest.mark.parametrize(
        ("reward", "message"),
        [
            (MahalanobisReward(3), "a reward of 3 targets; this environment has 2"),
            (MahalanobisReward(2, num_members=4), "a reward of 4 members"),
            (NeuralReward(2, 2), "NeuralReward, which has no matrix U"),
            (StateDependentReward(2, 5), "does not take inputs of size 2"),
        ],
    )
    def test_one_that_does_not_fit(self, reward: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            GaussianToyEnv(u=reward)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dim": 0}, "dim=0; it must be an integer of at least 1"),
        ({"x_limit": 0.0}, "x_limit=0.0; it must be positive"),
        ({"temperature": math.inf}, "temperature=inf; it must be positive"),
        ({"mean": "cosine"}, "mean='cosine'; allowed: shift, sine"),
        ({"mean": lambda x: x[:, 0]}, r"shape \[4096\] .* must return finite numbers \[N, D\]"),
        ({"noise": "loud"}, "noise='loud'; allowed: constant, correlated, heteroscedastic"),
        ({"noise": -1.0}, "must be positive and finite"),
        ({"noise": [1.0, 1.0, 1.0]}, r"noise has shape \[3\]; it must be a number, \[2\]"),
        ({"noise": [[1.0, 2.0], [2.0, 1.0]]}, "covariance is not positive definite"),
        ({"noise": {}}, "neither a name nor numbers"),
        ({"noise": lambda x: x}, "must be positive and finite"),
        ({"noise": lambda x: x[:, :1]}, r"shape \[4096, 1\] for 4096 inputs and 2 targets"),
        ({"u": "best"}, "u='best'; allowed: optimal, identity, trace, covariance"),
        ({"u": 0.0}, "U is not positive definite"),
        ({"u": [1.0, 2.0, 3.0]}, "a diagonal of 3 numbers; it must have 2"),
        ({"u": [[1.0, 2.0], [2.0, 1.0]]}, "U is not positive definite"),
        ({"u": [["a"]]}, "allowed: optimal, identity, trace, covariance, a number"),
        ({"render_mode": "human"}, "render_mode='human'; allowed: None, ansi, rgb_array"),
    ],
)
def test_impossible_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GaussianToyEnv(**kwargs)
