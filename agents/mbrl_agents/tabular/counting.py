"""Tabular agents that count what they see and learn a model of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbrl_agents.tabular.base import FloatArray, TabularAgent
from mbrl_bilevel.runs import derive_seed
from mbrl_bilevel.tabular import (
    TabularMDP,
    TransitionCounts,
    learn_transitions,
    learned_mdp,
    policy_iteration,
)


class CountingAgent(TabularAgent):
    """Keeps the counts, and knows the optimal values of the model that they make.

    Arguments and errors are those of `TabularAgent`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen = TransitionCounts(
            self.num_states,
            self.num_actions,
            getattr(self.model_config, "held_out_fraction", 0.0),
            derive_seed(self.seed, "held out"),
        )
        self.initial_counts: NDArray[np.int64] = np.zeros(self.num_states, np.int64)
        self._solved: tuple[int, FloatArray] | None = None

    def learn_model(self) -> tuple[TabularMDP, dict[str, float]]:
        """Return the process learned from everything seen so far, and what to log."""
        transitions, metrics = learn_transitions(self.seen, self.sections.objective)
        return learned_mdp(self.seen, transitions, self.initial_counts), metrics

    def q_values(self) -> FloatArray:
        """Return the optimal action values of the learned model, `[S, A]`."""
        if self._solved is None or self._solved[0] != len(self.seen):
            mdp, _ = self.learn_model()
            solution = policy_iteration(mdp, self.config.discount)
            self._solved = len(self.seen), solution.q_values
        return self._solved[1]

    def _begin_episode(self, state: int) -> None:
        self.initial_counts[state] += 1

    def _learn_from(
        self, state: int, action: int, reward: float, next_state: int, terminated: bool
    ) -> dict[str, float]:
        self.seen.add(state, action, reward, next_state, terminated)
        return {}

    def _own_state(self) -> dict[str, Any]:
        return {"seen": self.seen.state_dict(), "initial_counts": self.initial_counts.copy()}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self.seen.load_state_dict(state["seen"])
        self.initial_counts = np.array(state["initial_counts"])
        self._solved = None
