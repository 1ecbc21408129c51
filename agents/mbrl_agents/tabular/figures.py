"""Pictures of values and policies."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_bilevel.evaluation.plots import STYLE, WIDTH_INCHES
from mbrl_envs.tabular.drawing import Board

MAX_STATES = 60
"""States of a picture without a board, at most."""


def value_figure(
    tables: dict[str, NDArray[np.float64]], board: Board | None, ends: NDArray[np.bool_]
) -> Figure:
    """Draw action values `[S, A]` by title, side by side: a map of values and best actions.

    Args:
        tables: By title; all on one scale.
        board: Where the states lie; None: a table of states and actions instead.
        ends: States that episodes end in, `[S]`: they have neither value nor action.
    """
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
        values = [q.max(axis=1) if board is not None else q for q in tables.values()]
        shown = [v[~ends] for v in values]
        low, high = min(v.min() for v in shown), max(v.max() for v in shown)
        for i, (title, q_values) in enumerate(tables.items()):
            axes = figure.add_subplot(1, len(tables), i + 1)
            if board is None:
                image = axes.imshow(q_values[:MAX_STATES], aspect="auto", vmin=low, vmax=high)
                axes.set(xlabel="action", ylabel="state")
            else:
                image = axes.imshow(_on_board(q_values, board, ends), vmin=low, vmax=high)
                _draw_policy(axes, q_values, board, ends)
            axes.set(title=title, xticks=[], yticks=[])
        figure.colorbar(image, ax=figure.axes, label="value", shrink=0.7)
    return figure


def _on_board(
    q_values: NDArray[np.float64], board: Board, ends: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the states' values on the board, nan where there is none."""
    values = np.full(board.letters.shape, np.nan)
    for state, cell in board.cells.items():
        if not ends[state]:
            values[cell] = q_values[state].max()
    return values


def _draw_policy(
    axes: Axes, q_values: NDArray[np.float64], board: Board, ends: NDArray[np.bool_]
) -> None:
    for state, (row, column) in board.cells.items():
        letter = str(board.letters[row, column])
        if letter != ".":
            axes.text(column - 0.38, row - 0.28, letter, fontsize=8, color="black")
        if ends[state] or not board.moves:
            continue
        down, right = board.moves[int(q_values[state].argmax())]
        axes.annotate(
            "",
            xytext=(column - 0.28 * right, row - 0.28 * down),
            xy=(column + 0.28 * right, row + 0.28 * down),
            arrowprops={"arrowstyle": "->", "color": "white", "linewidth": 1.6},
        )
