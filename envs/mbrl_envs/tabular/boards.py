"""How the states of known finite environments lie on a plane."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv

from mbrl_envs.tabular.base import TabularEnv
from mbrl_envs.tabular.drawing import Board, plain_board

UP, RIGHT, DOWN, LEFT = (-1, 0), (0, 1), (1, 0), (0, -1)


def board_of(env: gym.Env[Any, Any]) -> Board | None:
    """Return the board of an environment, wrapped or not; None if its states lie on none."""
    inner = env.unwrapped
    if isinstance(inner, TabularEnv):
        return inner.board
    if isinstance(inner, FrozenLakeEnv):
        letters = np.asarray(inner.desc).astype(str)
        frozen = plain_board(letters.size, letters.shape[1], moves=(LEFT, DOWN, RIGHT, UP))
        return Board(np.where(letters == "F", ".", letters), frozen.cells, frozen.moves)
    if isinstance(inner, CliffWalkingEnv):
        num_rows, num_columns = inner.shape
        return plain_board(num_rows * num_columns, num_columns, moves=(UP, RIGHT, DOWN, LEFT))
    return None
