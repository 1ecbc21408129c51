"""Finite Markov decision processes as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

Outcomes = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
"""Gymnasium's toy-text format: `P[s][a]` lists `(probability, next state, reward, terminated)`."""


@dataclass(frozen=True)
class TabularMDP:
    """A process with S states and A actions, both counted from zero.

    Whether a step terminates is a property of the step, not of the state that it leads to: nothing
    that a table says about leaving a state counts after a step that terminated there.

    Attributes:
        transition_table: `P(s' | s, a)`, `[S, A, S']`.
        reward_table: Mean reward of each step, `[S, A, S']`.
        termination_table: Probability that the step terminates, `[S, A, S']`.
        initial_distribution: Where episodes begin, `[S]`.
    """

    transition_table: FloatArray
    reward_table: FloatArray
    termination_table: FloatArray
    initial_distribution: FloatArray

    def __post_init__(self) -> None:
        """Raise ValueError unless shapes fit and probabilities are some."""
        shape = self.transition_table.shape
        if len(shape) != 3 or shape[0] != shape[2] or 0 in shape:
            raise ValueError(f"transition_table has shape {list(shape)}; it must be [S, A, S]")
        for name, expected in (
            ("reward_table", shape),
            ("termination_table", shape),
            ("initial_distribution", shape[:1]),
        ):
            found = getattr(self, name).shape
            if found != expected:
                raise ValueError(f"{name} has shape {list(found)}; it must be {list(expected)}")
        if not np.isfinite(self.reward_table).all():
            raise ValueError("reward_table holds nan or infinity")
        if not ((self.termination_table >= 0) & (self.termination_table <= 1)).all():
            raise ValueError("termination_table must lie between 0 and 1")
        for name in ("transition_table", "initial_distribution"):
            table = getattr(self, name)
            if not (table >= 0).all() or not np.allclose(table.sum(axis=-1), 1.0, atol=1e-8):
                raise ValueError(f"{name} does not hold probabilities that add up to one")

    @property
    def num_states(self) -> int:
        """S."""
        return int(self.transition_table.shape[0])

    @property
    def num_actions(self) -> int:
        """A."""
        return int(self.transition_table.shape[1])

    @cached_property
    def expected_reward(self) -> FloatArray:
        """Mean reward of each state and action, `[S, A]`."""
        mean: FloatArray = np.einsum("ijk,ijk->ij", self.transition_table, self.reward_table)
        return mean

    @cached_property
    def continuation(self) -> FloatArray:
        """Probability of going on in `s'`, `P(s' and not terminated | s, a)`, `[S, A, S']`."""
        return self.transition_table * (1.0 - self.termination_table)

    def q_values(self, values: FloatArray, discount: float) -> FloatArray:
        """Return `r(s, a) + discount E[V(s'), unless the step terminates]`, `[S, A]`, of `[S]`."""
        backed_up: FloatArray = self.expected_reward + discount * (self.continuation @ values)
        return backed_up


def mdp_from_outcomes(outcomes: Outcomes, initial_distribution: NDArray[Any]) -> TabularMDP:
    """Return the tables of a process in Gymnasium's toy-text format.

    Several outcomes that lead to one state are merged: their probabilities add up, rewards and
    terminations are averaged. Expected returns stay what they are.

    Args:
        outcomes: `P`.
        initial_distribution: `[S]`.

    Raises:
        ValueError: Something is missing, or does not fit.
    """
    num_states, num_actions = len(outcomes), len(outcomes[0])
    shape = (num_states, num_actions, num_states)
    probs, rewards, terminations = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for state in range(num_states):
        for action in range(num_actions):
            for prob, next_state, reward, terminated in outcomes[state][action]:
                probs[state, action, next_state] += prob
                rewards[state, action, next_state] += prob * reward
                terminations[state, action, next_state] += prob * terminated
    possible = probs > 0
    np.divide(rewards, probs, out=rewards, where=possible)
    np.divide(terminations, probs, out=terminations, where=possible)
    return TabularMDP(
        # Thirds do not add up to one exactly.
        probs / probs.sum(axis=-1, keepdims=True),
        rewards,
        np.clip(terminations, 0.0, 1.0),
        np.asarray(initial_distribution, np.float64),
    )


def outcomes_of(mdp: TabularMDP) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
    """Return a process in Gymnasium's toy-text format; the inverse of `mdp_from_outcomes`.

    A step that terminates only sometimes becomes two outcomes.
    """
    found: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {}
    for state in range(mdp.num_states):
        found[state] = {}
        for action in range(mdp.num_actions):
            row: list[tuple[float, int, float, bool]] = []
            for next_state in np.flatnonzero(mdp.transition_table[state, action]).tolist():
                where = (state, action, next_state)
                prob, reward = float(mdp.transition_table[where]), float(mdp.reward_table[where])
                ends = float(mdp.termination_table[where])
                row += [
                    (prob * share, next_state, reward, terminated)
                    for share, terminated in ((1.0 - ends, False), (ends, True))
                    if share > 0
                ]
            found[state][action] = row
    return found
