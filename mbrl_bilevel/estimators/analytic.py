"""The expected reward in closed form."""

import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators.base import Estimator
from mbrl_bilevel.heads import CategoricalHead, GaussianHead, Head
from mbrl_bilevel.rewards import QuadraticReward, Reward


class Analytic(Estimator):
    """Exact: a Gaussian's expectation of a quadratic form, or a sum over classes.

    `E r = -(mean - y)^T U (mean - y) - tr(U Sigma)` and `E r = sum_c p_c r(c, y)` (theory,
    sections 2 and 3).
    """

    name = "analytic"

    def check(self, head: Head, reward: Reward) -> None:
        if isinstance(head, CategoricalHead):
            return
        if not (isinstance(head, GaussianHead) and isinstance(reward, QuadraticReward)):
            raise ConfigError(
                f"estimator 'analytic' knows no closed form for head {head.name!r} with reward "
                f"{type(reward).__name__}; use 'reparameterised' or 'dice'"
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
        if isinstance(head, CategoricalHead):
            classes = torch.arange(head.num_classes, device=z.device)
            rewards = reward(classes.view(-1, *[1] * (z.ndim - 1)), y, x)
            expected: Tensor = (z.softmax(dim=-1).movedim(-1, 0) * rewards).sum(dim=0)
            return expected
        assert isinstance(head, GaussianHead)
        assert isinstance(reward, QuadraticReward)
        precision = reward.precision(x)
        return -precision.quadratic(head.mean(z) - y) - head.trace(z, precision)
