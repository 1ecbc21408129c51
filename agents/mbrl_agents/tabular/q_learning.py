"""Q-learning, without a model (Watkins 1989)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mbrl_agents.tabular.base import FloatArray, TabularAgent
from mbrl_agents.tabular.config import QLearningConfig
from mbrl_agents.tabular.exploration import epsilon_greedy
from mbrl_bilevel.config.tabular import ModelFreeSections


class QLearning(TabularAgent):
    """Moves the value of each action towards its reward and the best value that follows.

    Arguments and errors are those of `TabularAgent`; the settings are the fields of
    `QLearningConfig`: `lr`, `exploration`, ...
    """

    config_class: ClassVar[type[QLearningConfig]] = QLearningConfig
    sections_class: ClassVar[type[ModelFreeSections]] = ModelFreeSections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = (self.num_states, self.num_actions)
        self._q_values: FloatArray = np.zeros(shape)
        self._visits: NDArray[np.int64] = np.zeros(shape, np.int64)

    def q_values(self) -> FloatArray:
        """Return the action values as they are, `[S, A]`."""
        return self._q_values

    def _act(self, state: int) -> int:
        return epsilon_greedy(
            self._q_values[state], self.config.exploration, self.num_timesteps, self.rng
        )

    def _learn_from(
        self, state: int, action: int, reward: float, next_state: int, terminated: bool
    ) -> dict[str, float]:
        self._visits[state, action] += 1
        lr = self.config.lr / self._visits[state, action] ** self.config.lr_decay
        going_on = 0.0 if terminated else self._q_values[next_state].max()
        target = reward + self.config.discount * going_on
        self._q_values[state, action] += lr * (target - self._q_values[state, action])
        return {}

    def _own_state(self) -> dict[str, Any]:
        return {"q_values": self._q_values.copy(), "visits": self._visits.copy()}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self._q_values = np.array(state["q_values"])
        self._visits = np.array(state["visits"])
