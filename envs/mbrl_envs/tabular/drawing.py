"""Pictures of finite environments: a board of cells, and where the agent is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELL = 64
"""Pixels of a cell's side."""

COLORS = {
    ".": (244, 243, 238),
    "S": (205, 222, 240),
    "G": (150, 205, 165),
    "H": (90, 110, 140),
    "#": (60, 60, 64),
}
"""Of cells by their letter; other letters look like an empty one."""

LINE = (214, 212, 204)
AGENT = (214, 108, 68)


@dataclass(frozen=True)
class Board:
    """How states lie in a picture.

    Attributes:
        letters: What is in each cell, `[rows, columns]`, one character each.
        cells: Row and column of each state.
        moves: Rows and columns that each action is meant to move by, if they say.
    """

    letters: NDArray[np.str_]
    cells: Mapping[int, tuple[int, int]]
    moves: Sequence[tuple[int, int]] = ()


def plain_board(num_states: int, num_columns: int, moves: Sequence[tuple[int, int]] = ()) -> Board:
    """Return a board of empty cells, filled row by row; what is left over is walled up."""
    num_rows = -(-num_states // num_columns)
    letters = np.full((num_rows, num_columns), "#")
    letters.reshape(-1)[:num_states] = "."
    cells = {state: divmod(state, num_columns) for state in range(num_states)}
    return Board(letters, cells, moves)


def draw(board: Board, state: int) -> NDArray[np.uint8]:
    """Return pixels `[height, width, 3]`, with the agent as a disc."""
    num_rows, num_columns = board.letters.shape
    pixels = np.zeros((num_rows * CELL, num_columns * CELL, 3), np.uint8)
    for row in range(num_rows):
        for column in range(num_columns):
            tile = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
            tile[...] = COLORS.get(str(board.letters[row, column]), COLORS["."])
            tile[0], tile[:, 0] = LINE, LINE
    row, column = board.cells[state]
    offsets = np.arange(CELL) - (CELL - 1) / 2
    disc = offsets[:, None] ** 2 + offsets[None, :] ** 2 <= (0.32 * CELL) ** 2
    tile = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    tile[disc] = AGENT
    return pixels


def write(board: Board, state: int, last_action: str | None) -> str:
    """Return the board as text: the last action, if any, and the agent's cell in brackets."""
    rows = [
        "".join(
            f"[{letter}]" if (row, column) == board.cells[state] else f" {letter} "
            for column, letter in enumerate(letters)
        ).rstrip()
        for row, letters in enumerate(board.letters)
    ]
    return "\n".join([f"({last_action})" if last_action else "", *rows]) + "\n"
