"""What the bilevel objectives share, whatever the reward is a function of."""

from torch import Tensor

from mbrl_bilevel.bilevel.task_reward import TaskReward
from mbrl_bilevel.config import BilevelConfig
from mbrl_bilevel.objectives import Objective


class TaskObjective(Objective):
    """A bilevel objective that the task may be asked for: dimensions count by their shares.

    Args:
        target_size: D.
        config: Temperature, natural-gradient exponent, and whether the return decides.
    """

    name = "bilevel"

    def __init__(self, target_size: int, config: BilevelConfig) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.natural_gradient = config.natural_gradient
        self.return_horizon = config.return_horizon if config.outer == "return" else None
        self.task = TaskReward(target_size)

    @property
    def relevance(self) -> Tensor | None:
        return None if self.return_horizon is None else self.task.share

    def set_relevance(self, share: Tensor) -> None:
        self.task.follow(share)
