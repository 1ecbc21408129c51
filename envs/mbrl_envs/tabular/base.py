"""What the finite environments have in common: tables, and steps drawn from them."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_bilevel.tabular import TabularMDP, outcomes_of
from mbrl_envs.tabular.drawing import Board, draw, write

FloatArray = NDArray[np.float64]


class TabularEnv(gym.Env[Any, Any]):
    """A process with S states and A actions, drawn from its tables; subclasses make them.

    Args:
        transition_table: `P(s' | s, a)`, `[S, A, S']`.
        reward_table: Reward of each step, `[S, A, S']`.
        terminal_states: Arriving there terminates the episode, bool `[S]`.
        initial_distribution: Where episodes begin, `[S]`.
        board: How the states lie in pictures.
        action_names: For `render`.
        render_mode: `None`, `"ansi"` or `"rgb_array"`.

    Attributes:
        transition_table: See above. From a terminal state no step leads away.
        reward_table: See above. Zero from terminal states on.
        terminal_states: See above.
        initial_distribution: See above.
        initial_state_distrib: The same, by the name of Gymnasium's toy-text environments.
        board: See above.
        P: All of it in their format, `P[s][a]` a list of `(probability, s', reward, terminated)`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (an instance variable in gym.Env)
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        transition_table: FloatArray,
        reward_table: FloatArray,
        terminal_states: NDArray[np.bool_],
        initial_distribution: FloatArray,
        board: Board,
        action_names: Sequence[str],
        render_mode: str | None,
    ) -> None:
        self.transition_table = transition_table.copy()
        self.reward_table = reward_table.copy()
        self.terminal_states = terminal_states
        self.initial_distribution = initial_distribution
        ends = np.flatnonzero(terminal_states)
        self.transition_table[ends] = 0.0
        self.transition_table[ends, :, ends] = 1.0
        self.reward_table[ends] = 0.0
        num_states, num_actions, _ = transition_table.shape
        self.initial_state_distrib = initial_distribution
        self.P = outcomes_of(self.mdp())

        self.observation_space = spaces.Discrete(num_states)
        self.action_space = spaces.Discrete(num_actions)
        self.render_mode = render_mode
        self.board = board
        self._action_names = action_names
        # The last entry is one exactly, so that the largest draw finds a state, too.
        self._cumulative = self.transition_table.cumsum(axis=-1)
        self._cumulative /= self._cumulative[..., -1:]
        self._state = 0
        self._last_action: int | None = None

    def mdp(self) -> TabularMDP:
        """Return the tables as what the exact solvers take."""
        return TabularMDP(
            self.transition_table,
            self.reward_table,
            np.broadcast_to(
                self.terminal_states.astype(np.float64), self.transition_table.shape
            ).copy(),
            self.initial_distribution,
        )

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[int, dict[str, Any]]:
        """Draw a state from the initial distribution; `options` are ignored."""
        super().reset(seed=seed)
        cumulative = self.initial_distribution.cumsum()
        self._state = self._draw(cumulative / cumulative[-1])
        self._last_action = None
        return self._state, {"prob": float(self.initial_distribution[self._state])}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Draw the next state; `info["prob"]` is the probability that it had."""
        previous = self._state
        self._state = self._draw(self._cumulative[previous, action])
        self._last_action = int(action)
        where = (previous, self._last_action, self._state)
        # The time limit is handled by the `TimeLimit` wrapper that `gym.make` adds.
        return (
            self._state,
            float(self.reward_table[where]),
            bool(self.terminal_states[self._state]),
            False,
            {"prob": float(self.transition_table[where])},
        )

    def render(self) -> Any:
        """Show the state: text with `"ansi"`, pixels `[height, width, 3]` with `"rgb_array"`."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called on an environment made without a render mode; "
                'make it with render_mode="ansi" or "rgb_array".'
            )
            return None
        if self.render_mode == "rgb_array":
            return draw(self.board, self._state)
        last = None if self._last_action is None else self._action_names[self._last_action]
        return write(self.board, self._state, last)

    def _draw(self, cumulative: FloatArray) -> int:
        return int(np.searchsorted(cumulative, self.np_random.random(), side="right"))
