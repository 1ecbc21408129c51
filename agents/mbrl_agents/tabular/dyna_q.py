"""Dyna-Q: Q-learning from real and from imagined steps (Sutton 1990)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mbrl_agents.tabular.base import FloatArray
from mbrl_agents.tabular.config import DynaQConfig
from mbrl_agents.tabular.counting import CountingAgent
from mbrl_agents.tabular.exploration import epsilon_greedy
from mbrl_bilevel.config.tabular import TabularSections
from mbrl_bilevel.tabular import TabularMDP


class DynaQ(CountingAgent):
    """After each step, Q-learning's update from it, and more of them from the learned model.

    The imagined updates are of states and actions that have been tried, drawn at random. They are
    expected updates unless asked otherwise (Sutton and Barto 2018, section 8.5).

    Arguments and errors are those of `TabularAgent`; the settings are the fields of `DynaQConfig`:
    `planning_updates`, `exploration`, ...
    """

    config_class: ClassVar[type[DynaQConfig]] = DynaQConfig
    sections_class: ClassVar[type[TabularSections]] = TabularSections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._q_values: FloatArray = np.zeros((self.num_states, self.num_actions))
        self._model: TabularMDP | None = None
        self._fitted_on: dict[str, Any] | None = None

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
        super()._learn_from(state, action, reward, next_state, terminated)
        going_on = 0.0 if terminated else self._q_values[next_state].max()
        target = reward + self.config.discount * going_on
        self._q_values[state, action] += self.config.lr * (target - self._q_values[state, action])
        metrics: dict[str, float] = {}
        if len(self.seen) % self.config.model_train_freq == 0:
            self._fitted_on = super()._own_state()
            self._model, metrics = self.learn_model()
            self._tried = np.argwhere(self.seen.visits > 0)
        if self._model is not None and self.config.planning_updates:
            self._plan(self._model)
        return metrics

    def _plan(self, model: TabularMDP) -> None:
        drawn = self.rng.integers(len(self._tried), size=self.config.planning_updates)
        states, actions = self._tried[drawn].T
        if self.config.updates == "expected":
            values = self._q_values.max(axis=1)
            going_on = model.continuation[states, actions] @ values
            self._q_values[states, actions] = (
                model.expected_reward[states, actions] + self.config.discount * going_on
            )
            return
        next_states = self._draw_next(model, states, actions)
        where = (states, actions, next_states)
        ends = self.rng.random(len(states)) < model.termination_table[where]
        going_on = np.where(ends, 0.0, self._q_values[next_states].max(axis=1))
        targets = model.reward_table[where] + self.config.discount * going_on
        steps = self.config.lr * (targets - self._q_values[states, actions])
        np.add.at(self._q_values, (states, actions), steps)

    def _draw_next(
        self, model: TabularMDP, states: NDArray[np.int64], actions: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return a next state of each pair `[N]`, by the inverse of the cumulative distribution."""
        cumulative = model.transition_table[states, actions].cumsum(axis=1)
        draws = self.rng.random(len(states)) * cumulative[:, -1]
        drawn: NDArray[np.int64] = (draws[:, None] >= cumulative[:, :-1]).sum(axis=1)
        return drawn

    def _own_state(self) -> dict[str, Any]:
        # What the model was fitted on, and not the model: as many numbers as were counted.
        return super()._own_state() | {
            "q_values": self._q_values.copy(),
            "fitted_on": self._fitted_on,
        }

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self._q_values = np.array(state["q_values"])
        self._fitted_on, self._model = state["fitted_on"], None
        if self._fitted_on is not None:
            super()._load_own_state(self._fitted_on)
            self._model, _ = self.learn_model()
            self._tried = np.argwhere(self.seen.visits > 0)
        super()._load_own_state(state)
