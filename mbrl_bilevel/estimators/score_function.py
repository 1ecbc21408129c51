"""REINFORCE: the score-function gradient of the expected reward."""

from typing import Literal

from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators.base import SampledEstimator
from mbrl_bilevel.heads import Head
from mbrl_bilevel.rewards import Reward

Baseline = Literal["none", "mean", "leave_one_out", "group_normalised"]
BASELINES: tuple[Baseline, ...] = ("none", "mean", "leave_one_out", "group_normalised")
_EPS = 1e-8


class ScoreFunction(SampledEstimator):
    """`grad E r = E[(r - b) grad log p]`, the log-probability summed over dimensions.

    The value is the mean reward of the samples; only the first derivative in z is an estimate of
    the expectation's. Differentiating it again gives something else, so it trains models but
    does not enter hypergradients.

    Baselines over a sample's K rewards: `none`; `leave_one_out`, the mean of the others, unbiased;
    `mean`, which shrinks the gradient by `(K - 1) / K`; `group_normalised`, which also divides by
    the standard deviation (GRPO, Shao et al. 2024). The last two change the reward's weight against
    the entropy, and with it the inner solution: `mean` by a known factor, `group_normalised` by one
    that differs from sample to sample.

    Args:
        num_samples: K.
        seed: Of the noise.
        baseline: See above.
        clip: PPO's clipping range of the likelihood ratio to the behaviour (Schulman et al. 2017);
            None: no clipping. Without a `behaviour` every ratio is one. Clipping takes gradient
            from the reward and none from the entropy: with many steps from one behaviour, the
            solution is too wide.

    Raises:
        ConfigError: A setting is impossible.
    """

    name = "score_function"
    twice_differentiable = False
    reason = (
        "a score-function surrogate holds its samples fixed, so its second derivatives are not "
        "those of the expected reward"
    )

    def __init__(
        self,
        num_samples: int = 16,
        seed: int = 0,
        baseline: Baseline = "leave_one_out",
        clip: float | None = None,
    ) -> None:
        super().__init__(num_samples, seed)
        if baseline not in BASELINES:
            raise ConfigError(
                f"estimator 'score_function': unknown baseline {baseline!r}; allowed: "
                f"{', '.join(BASELINES)}"
            )
        if baseline != "none" and num_samples < 2:
            raise ConfigError(
                f"estimator 'score_function': baseline {baseline!r} needs at least 2 samples"
            )
        if clip is not None and not 0 < clip < 1:
            raise ConfigError(
                f"estimator 'score_function': clip={clip}; it must lie between 0 and 1"
            )
        self.baseline = baseline
        self.clip = clip

    def expected_reward(
        self,
        head: Head,
        z: Tensor,
        reward: Reward,
        y: Tensor,
        x: Tensor | None,
        behaviour: Tensor | None = None,
    ) -> Tensor:
        """See `Estimator.expected_reward`."""
        samples, ratio = self.weighted_samples(head, z, behaviour)
        rewards: Tensor = reward(samples, y, x)
        advantages = self._advantages(rewards).detach()
        gains = ratio * advantages
        if self.clip is not None:
            clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
            gains = gains.minimum(clipped * advantages)
        surrogate = gains.mean(dim=0)
        # The surrogate's gradient with the mean reward's value; the reward's own parameters keep
        # their gradient, too.
        return surrogate - surrogate.detach() + rewards.mean(dim=0)

    def _advantages(self, rewards: Tensor) -> Tensor:
        if self.baseline == "none":
            return rewards
        if self.baseline == "leave_one_out":
            return rewards - self.leave_one_out(rewards)
        advantages = rewards - rewards.mean(dim=0)
        if self.baseline == "mean":
            return advantages
        return advantages / (rewards.std(dim=0) + _EPS)
