"""How good a policy is, by the exact tables of an environment that has some."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.tabular import (
    Solution,
    TabularMDP,
    evaluate_policy,
    optimal_return,
    policy_iteration,
    policy_return,
)
from mbrl_envs.tasks import find_task


def exact_mdp(env: gym.Env[Any, Any]) -> TabularMDP | None:
    """Return the tables of an environment, if its task knows them."""
    task = find_task(env)
    return None if task is None or task.tables_fn is None else task.tables_fn(env)


class ExactReport:
    """Judges policies of one environment.

    Args:
        mdp: Its tables.
        discount: Of values, in [0, 1).
        num_steps: Its time limit; None: it has none, and returns are not judged.
    """

    def __init__(self, mdp: TabularMDP, discount: float, num_steps: int | None) -> None:
        self.mdp = mdp
        self.discount = discount
        self.num_steps = num_steps
        self.solution: Solution = policy_iteration(mdp, discount)
        start = mdp.initial_distribution
        self._optimal = {"eval/optimal_value": float(start @ self.solution.values)}
        if num_steps is not None:
            self._optimal["eval/optimal_return"] = optimal_return(mdp, num_steps)

    def metrics(self, policy: NDArray[np.int64]) -> dict[str, float]:
        """Return what always following actions `[S]` is worth, and what the best would be.

        `value`: discounted, without a time limit, from the initial distribution. `return`: the mean
        undiscounted return of an episode under the time limit; the best of it is that of policies
        that may count their steps.
        """
        values = evaluate_policy(self.mdp, policy, self.discount)
        found = {"eval/exact_value": float(self.mdp.initial_distribution @ values)}
        if self.num_steps is not None:
            found["eval/exact_return"] = policy_return(self.mdp, policy, self.num_steps)
        return found | self._optimal
