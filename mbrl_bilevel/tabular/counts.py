"""What has been seen of a finite process, counted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.errors import CheckpointError
from mbrl_bilevel.tabular.mdp import FloatArray

IntArray = NDArray[np.int64]


class TransitionCounts:
    """Transitions of S states and A actions, each counted for the inner or the outer problem.

    A share `held_out_fraction` of the transitions, drawn at random and kept to within one
    transition at any size, is held out: rewards of predictions are learned on it.

    Args:
        num_states: S.
        num_actions: A.
        held_out_fraction: In [0, 1).
        seed: Of the assignment.

    Attributes:
        counts: Of every transition, `[S, A, S']`.
        held_out: Of those held out, `[S, A, S']`.
        reward_sums: Of every transition, `[S, A, S']`.
        terminations: How many terminated, `[S, A, S']`.
        visits: How often each action was taken in each state, `[S, A]`.
    """

    def __init__(
        self, num_states: int, num_actions: int, held_out_fraction: float, seed: int
    ) -> None:
        shape = (num_states, num_actions, num_states)
        self.counts: IntArray = np.zeros(shape, np.int64)
        self.held_out: IntArray = np.zeros(shape, np.int64)
        self.reward_sums: FloatArray = np.zeros(shape)
        self.terminations: IntArray = np.zeros(shape, np.int64)
        self.visits: IntArray = np.zeros(shape[:2], np.int64)
        self._held_out_fraction = held_out_fraction
        self._num_transitions = 0
        self._num_held_out = 0
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self._num_transitions

    def add(
        self, state: int, action: int, reward: float, next_state: int, terminated: bool
    ) -> None:
        """Count one transition."""
        where = (state, action, next_state)
        self.counts[where] += 1
        self.visits[state, action] += 1
        self.reward_sums[where] += reward
        self.terminations[where] += terminated
        self._num_transitions += 1
        owed = self._held_out_fraction * self._num_transitions - self._num_held_out
        if owed > self._rng.random():
            self.held_out[where] += 1
            self._num_held_out += 1

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on identically: what is not zero."""
        seen = np.flatnonzero(self.counts)
        return {
            "shape": list(self.counts.shape),
            "seen": seen,
            **{name: getattr(self, name).reshape(-1)[seen] for name in _TABLES},
            "rng": dict(self._rng.bit_generator.state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: It is of another number of states or actions.
        """
        if list(self.counts.shape) != list(state["shape"]):
            raise CheckpointError(
                f"the stored counts have shape {list(state['shape'])}, those of this environment "
                f"{list(self.counts.shape)}"
            )
        for name in _TABLES:
            table = np.zeros_like(getattr(self, name))
            table.reshape(-1)[state["seen"]] = state[name]
            setattr(self, name, table)
        self.visits = self.counts.sum(axis=-1)
        self._num_transitions = int(self.counts.sum())
        self._num_held_out = int(self.held_out.sum())
        self._rng.bit_generator.state = state["rng"]


_TABLES = ("counts", "held_out", "reward_sums", "terminations")
