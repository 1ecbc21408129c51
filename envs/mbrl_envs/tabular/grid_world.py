"""Grids with walls, holes and goals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mbrl_envs.tabular.base import TabularEnv
from mbrl_envs.tabular.drawing import Board

ACTIONS = ("up", "right", "down", "left")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

FOUR_ROOMS = (
    "S..#...",
    "...#...",
    ".......",
    "#.###.#",
    "...#...",
    "......G",
    "...#...",
)
"""The default map."""


class GridWorldEnv(TabularEnv):
    """
    ## Description

    An agent walks on a grid, from a start to a goal, around walls. It slips: with probability
    `slip` a move goes, with equal chance, to the left or to the right of where it was meant to go.
    A move into a wall, or off the grid, leaves it where it is.

    ## Action Space

    `Discrete(4)`.

    | Num | Action |
    |-----|--------|
    | 0   | Up     |
    | 1   | Right  |
    | 2   | Down   |
    | 3   | Left   |

    ## Observation Space

    `Discrete(S)`: the number of the cell, counted row by row, walls left out.

    ## Rewards

    `goal_reward` for arriving at a goal, `hole_reward` for arriving in a hole, `step_reward` for
    every other step.

    ## Starting State

    A cell marked `S`, with equal chance if there are several.

    ## Episode End

    - Termination: the agent arrives at a goal or in a hole.
    - Truncation: the episode reaches 200 steps.

    ## Tables

    `env.unwrapped` has `transition_table` and `reward_table`, both `[S, A, S']`,
    `terminal_states` and `initial_distribution`, both `[S]`, and all of it as `P` in the format
    of Gymnasium's toy-text environments.

    ## Arguments

    - `layout`: rows of equal length, of `.` (floor), `#` (wall), `S` (start), `G` (goal) and `H`
      (hole), with at least one `S`. Default: four rooms of 3 x 3 cells.
    - `slip`: in [0, 1]. Default: 0.1.
    - `goal_reward`, `hole_reward`, `step_reward`. Default: 1, -1 and 0.
    - `render_mode`: `None`, `"ansi"` or `"rgb_array"`.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("mbrl_envs:GridWorld-v0", layout=["S.G"], slip=0.0)
    >>> env.unwrapped.transition_table[0, 1]
    array([0., 1., 0.])

    ```

    ## Version History

    * v0: Initial version.
    """

    def __init__(
        self,
        layout: Sequence[str] = FOUR_ROOMS,
        slip: float = 0.1,
        goal_reward: float = 1.0,
        hole_reward: float = -1.0,
        step_reward: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        letters = _checked_letters(layout)
        if not 0 <= slip <= 1:
            raise ValueError(f"slip={slip}; it must lie in [0, 1]")
        cells = [(int(row), int(column)) for row, column in np.argwhere(letters != "#")]
        state_of = {cell: state for state, cell in enumerate(cells)}
        transitions = np.zeros((len(cells), len(MOVES), len(cells)))
        for state, (row, column) in enumerate(cells):
            for action in range(len(MOVES)):
                for turn, prob in ((0, 1.0 - slip), (1, slip / 2), (-1, slip / 2)):
                    down, right = MOVES[(action + turn) % len(MOVES)]
                    arrived = state_of.get((row + down, column + right), state)
                    transitions[state, action, arrived] += prob
        at = np.array([letters[cell] for cell in cells])
        pays = np.where(at == "G", goal_reward, np.where(at == "H", hole_reward, step_reward))
        starts = (at == "S").astype(np.float64)
        super().__init__(
            transitions,
            np.broadcast_to(pays, transitions.shape),
            np.isin(at, ["G", "H"]),
            starts / starts.sum(),
            Board(letters, dict(enumerate(cells)), MOVES),
            ACTIONS,
            render_mode,
        )


def _checked_letters(layout: Sequence[str]) -> NDArray[np.str_]:
    rows = [str(row) for row in layout]
    if isinstance(layout, str) or not rows or len({len(row) for row in rows}) != 1:
        raise ValueError(f"layout={layout!r}; it must be a list of rows of equal length")
    letters = np.array([list(row) for row in rows])
    unknown = sorted(set(letters.reshape(-1).tolist()) - set(".#SGH"))
    if unknown:
        raise ValueError(f"layout holds {unknown[0]!r}; allowed: '.', '#', 'S', 'G', 'H'")
    if not (letters == "S").any():
        raise ValueError("layout holds no start 'S'")
    return letters
