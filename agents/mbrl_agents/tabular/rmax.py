"""R-max: optimism about what is not known (Brafman and Tennenholtz 2002)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from mbrl_agents.tabular.base import FloatArray
from mbrl_agents.tabular.config import RMaxConfig
from mbrl_agents.tabular.counting import CountingAgent
from mbrl_agents.tabular.exploration import best_action
from mbrl_bilevel.config.tabular import TabularSections
from mbrl_bilevel.tabular import TabularMDP, policy_iteration


class RMax(CountingAgent):
    """Acts by a model in which all that was tried less than m times is as good as can be.

    It plans anew whenever a state and action become known. `predict` follows the model as it was
    learned, without the optimism.

    Arguments and errors are those of `TabularAgent`; the settings are the fields of `RMaxConfig`:
    `known_after`, `max_reward`, ...
    """

    config_class: ClassVar[type[RMaxConfig]] = RMaxConfig
    sections_class: ClassVar[type[TabularSections]] = TabularSections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._optimistic: FloatArray = np.zeros((self.num_states, self.num_actions))

    def _act(self, state: int) -> int:
        return best_action(self._optimistic[state], self.rng)

    def _learn_from(
        self, state: int, action: int, reward: float, next_state: int, terminated: bool
    ) -> dict[str, float]:
        super()._learn_from(state, action, reward, next_state, terminated)
        if self.seen.visits[state, action] != self.config.known_after:
            return {}
        learned, metrics = self.learn_model()
        optimistic = self._with_optimism(learned)
        self._optimistic = policy_iteration(optimistic, self.config.discount).q_values
        known = self.seen.visits >= self.config.known_after
        return metrics | {"model/known": float(known.mean())}

    def _with_optimism(self, learned: TabularMDP) -> TabularMDP:
        """Return the process in which what is not known stays where it is, and pays the most."""
        states, actions = np.nonzero(self.seen.visits < self.config.known_after)
        transitions, terminations, rewards = (
            table.copy()
            for table in (
                learned.transition_table,
                learned.termination_table,
                learned.reward_table,
            )
        )
        transitions[states, actions] = 0.0
        transitions[states, actions, states] = 1.0
        terminations[states, actions] = 0.0
        rewards[states, actions] = self.config.max_reward
        return TabularMDP(transitions, rewards, terminations, learned.initial_distribution)

    def _own_state(self) -> dict[str, Any]:
        return super()._own_state() | {"optimistic": self._optimistic.copy()}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        super()._load_own_state(state)
        self._optimistic = np.array(state["optimistic"])
