"""What a step in a model pays and whether it ends there: by exact functions, or as learned."""

from dataclasses import dataclass

from torch import Tensor

from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import TerminationClassifier
from mbrl_bilevel.types import RewardFn, TerminationFn


@dataclass(frozen=True)
class Outcomes:
    """The exact functions where there are any, what was learned elsewhere.

    Attributes:
        codec: Of the actions, which the exact functions take in the environment's units.
        reward_fn: Exact reward; None: the model's.
        termination_fn: Exact termination; None: the model's, or never if it has learned none.
    """

    codec: ActionCodec
    reward_fn: RewardFn | None
    termination_fn: TerminationFn | None

    def reward(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, learned: Tensor | None
    ) -> Tensor:
        """Return the rewards of steps, `[...]`.

        Args:
            obs: `[..., D_obs]`.
            action: Action features `[..., A]`.
            next_obs: `[..., D_obs]`.
            learned: The model's rewards, `[...]`; may be None where the exact ones are known.
        """
        if self.reward_fn is not None:
            return self.reward_fn(obs, self.codec.decode(action), next_obs)
        assert learned is not None
        return learned

    def terminated(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, learned: TerminationClassifier | None
    ) -> Tensor | None:
        """Return which steps terminate, bool `[...]`; None: none of them does.

        Args:
            obs, action, next_obs: As for `reward`.
            learned: The model's classifier, if it has one.
        """
        if self.termination_fn is not None:
            return self.termination_fn(obs, self.codec.decode(action), next_obs)
        if learned is None:
            return None
        ended: Tensor = learned(obs, action, next_obs)
        return ended
