"""The entropy-regularised policy gradient: the inner problem of any model with a head."""

import math

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.problem import ParamDict, require_twice_differentiable
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators import Analytic, Estimator
from mbrl_bilevel.heads import CategoricalHead, GaussianHead, Head
from mbrl_bilevel.rewards import OneHotReward, QuadraticReward, Reward


class PolicyGradientLoss:
    """The inner loss of a sample: `-E_{y_hat ~ p(.|x)} r_phi(y_hat, y, x) - temperature H(p(.|x))`.

    Benechehab et al. (2025), equation of the inner problem (section 4.1): the model is the policy,
    its prediction the action. Called as an inner loss of a `FunctionalProblem`.

    Args:
        head: Reads the model's outputs.
        reward: Its learned parameters are the outer parameters.
        estimator: Of the expected reward.
        temperature: The entropy's weight, positive.

    Raises:
        ConfigError: The temperature is not positive, or the three do not go together.
    """

    def __init__(
        self, head: Head, reward: Reward, estimator: Estimator, temperature: float = 1.0
    ) -> None:
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(
                f"temperature={temperature}; it must be positive and finite: without entropy the "
                "inner problem has no distribution for a solution"
            )
        _check_spaces(head, reward)
        estimator.check(head, reward)
        self.head = head
        self.reward = reward
        self.estimator = estimator
        self.temperature = temperature
        self.twice_differentiable = estimator.twice_differentiable
        self.reason = estimator.reason

    def __call__(
        self,
        outputs: Tensor,
        outer_params: ParamDict,
        x: Tensor | None,
        y: Tensor,
        behaviour: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of every sample, `[*S]`; arguments as for `Estimator.expected_reward`."""

        def expected_reward(reward: Reward) -> Tensor:
            return self.estimator.expected_reward(self.head, outputs, reward, y, x, behaviour)

        expected = self.reward.using(outer_params, expected_reward)
        return -expected - self.temperature * self.head.entropy(outputs)

    def conditional(
        self, outputs: Tensor, outer_params: ParamDict, x: Tensor, solution: Tensor
    ) -> Tensor:
        """Return the loss in expectation over y given x, `[*S]`: see `FunctionalProblem`.

        What is needed of y's distribution is read off the `solution [*S, n]`, which is stationary.
        The expectation over predictions is the exact one, whatever the estimator.

        Raises:
            ConfigError: It cannot be, for this reward, or the estimator's second derivatives are
                wrong.
        """
        # Here, as the solver looks at the loss it is handed, and this method has no attributes.
        require_twice_differentiable(self, "functional")
        if isinstance(self.head, GaussianHead) and isinstance(self.reward, QuadraticReward):
            # Up to a constant only the conditional mean matters.
            exact = PolicyGradientLoss(self.head, self.reward, Analytic(), self.temperature)
            return exact(outputs, outer_params, x, self.head.mean(solution))
        if isinstance(self.head, CategoricalHead) and isinstance(self.reward, OneHotReward):
            return self._conditional_classes(outputs, outer_params, x, solution)
        raise ConfigError(
            f"solver 'functional' cannot read the targets' distribution off a solution for head "
            f"{self.head.name!r} with reward {type(self.reward).__name__}; use 'cg' or 'nystrom'"
        )

    def _conditional_classes(
        self, outputs: Tensor, outer_params: ParamDict, x: Tensor, solution: Tensor
    ) -> Tensor:
        def table(reward: Reward) -> Tensor:
            assert isinstance(reward, OneHotReward)
            return reward.table(x)

        rewards = self.reward.using(outer_params, table)
        with torch.no_grad():
            shares = shares_of_classes(rewards, solution, self.temperature)
        of_class = (rewards @ shares[..., None])[..., 0]
        expected: Tensor = (outputs.softmax(dim=-1) * of_class).sum(dim=-1)
        return -expected - self.temperature * self.head.entropy(outputs)


def shares_of_classes(rewards: Tensor, solution: Tensor, temperature: float) -> Tensor:
    """Return the conditional shares q of classes whose inner solution is known, `[*S, C]`.

    Stationarity is `temperature log p = R q + constant`, and shares sum to one.

    Args:
        rewards: R, `[C, C]` or `[*S, C, C]`.
        solution: Logits of the solution p, `[*S, C]`.
        temperature: Weight of the entropy.
    """
    size = rewards.shape[-1]
    system = rewards.new_zeros(*rewards.shape[:-2], size + 1, size + 1)
    system[..., :size, :size] = rewards
    system[..., :size, size] = system[..., size, :size] = 1.0
    log_probs = temperature * solution.log_softmax(dim=-1)
    right = torch.cat([log_probs, torch.ones_like(log_probs[..., :1])], dim=-1)
    solved: Tensor = torch.linalg.solve(system, right[..., None])
    return solved[..., :size, 0]


def _check_spaces(head: Head, reward: Reward) -> None:
    """Raise ConfigError unless the reward judges what the head predicts."""
    of_classes = isinstance(reward, OneHotReward)
    if isinstance(head, CategoricalHead) != of_classes:
        kind = "classes" if of_classes else "real vectors"
        raise ConfigError(
            f"reward {type(reward).__name__} is for {kind}, not for head {head.name!r}"
        )
    predicted = head.num_classes if isinstance(head, CategoricalHead) else head.num_outputs
    expected = getattr(reward, "num_classes" if of_classes else "target_size", None)
    if isinstance(head, GaussianHead):
        predicted = head.target_size
    if expected is not None and expected != predicted:
        raise ConfigError(f"the reward is for {expected} dimensions, the head has {predicted}")
