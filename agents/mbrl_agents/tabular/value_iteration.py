"""Value iteration on the learned model."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from mbrl_agents.tabular.base import FloatArray
from mbrl_agents.tabular.config import ValueIterationConfig
from mbrl_agents.tabular.counting import CountingAgent
from mbrl_agents.tabular.exploration import epsilon_greedy
from mbrl_bilevel.config.tabular import TabularSections
from mbrl_bilevel.tabular import value_iteration


class TabularVI(CountingAgent):
    """Fits a tabular model now and then, solves it, and acts epsilon-greedily by the solution.

    Arguments and errors are those of `TabularAgent`; the settings are the fields of
    `ValueIterationConfig`: `exploration`, `model_train_freq`, ...
    """

    config_class: ClassVar[type[ValueIterationConfig]] = ValueIterationConfig
    sections_class: ClassVar[type[TabularSections]] = TabularSections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._q_values: FloatArray = np.zeros((self.num_states, self.num_actions))

    def q_values(self) -> FloatArray:
        """Return the optimal action values of the model as it was last fitted, `[S, A]`."""
        return self._q_values

    def _act(self, state: int) -> int:
        return epsilon_greedy(
            self._q_values[state], self.config.exploration, self.num_timesteps, self.rng
        )

    def _learn_from(
        self, state: int, action: int, reward: float, next_state: int, terminated: bool
    ) -> dict[str, float]:
        super()._learn_from(state, action, reward, next_state, terminated)
        if len(self.seen) % self.config.model_train_freq:
            return {}
        mdp, metrics = self.learn_model()
        solution = value_iteration(
            mdp, self.config.discount, initial_values=self._q_values.max(axis=1)
        )
        self._q_values = solution.q_values
        return metrics | {"model/num_iterations": float(solution.num_iterations)}

    def _own_state(self) -> dict[str, Any]:
        return super()._own_state() | {"q_values": self._q_values.copy()}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        super()._load_own_state(state)
        self._q_values = np.array(state["q_values"])
