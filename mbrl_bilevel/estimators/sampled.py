"""The expected reward from samples that can be differentiated twice."""

from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators.base import SampledEstimator
from mbrl_bilevel.heads import Head
from mbrl_bilevel.rewards import Reward


class Reparameterised(SampledEstimator):
    """The mean over samples `y_hat = sample(z, noise)`, differentiated through the samples."""

    name = "reparameterised"

    def check(self, head: Head, reward: Reward) -> None:
        del reward
        if not head.reparameterisable:
            raise ConfigError(
                f"estimator 'reparameterised': samples of head {head.name!r} are not "
                "differentiable; use 'analytic' or 'dice'"
            )

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
        del behaviour
        rewards: Tensor = reward(self.draw(head, z), y, x)
        return rewards.mean(dim=0)


class Dice(SampledEstimator):
    """The mean of `w r` with the likelihood ratio `w = p(y_hat | z) / p(y_hat | behaviour)`.

    The samples are constants; all dependence on z is in w, so every derivative of the mean is an
    estimate of the same derivative of the expectation (DiCE, Foerster et al. 2018: there the
    behaviour is z itself and w is one). With the behaviour held fixed it is a function of z.

    The leave-one-out mean of the other samples' rewards is a baseline for each: `w (r - b) + b`
    has the same expectation, to all orders, as the weights have mean one.
    """

    name = "dice"
    min_samples = 2

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
        samples, weights = self.weighted_samples(head, z, behaviour)
        rewards: Tensor = reward(samples, y, x)
        baseline = self.leave_one_out(rewards)
        return (weights * (rewards - baseline) + baseline).mean(dim=0)
