"""All transitions of a run, each assigned once to the inner or to the outer problem."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Transitions:
    """Transitions in the order of recording.

    Attributes:
        obs, next_obs: `[N, D_obs]`.
        actions: Stored actions, `[N, D_act]` for Box and `[N]` for Discrete.
        rewards: `[N]`.
        terminated: `[N]`, bool: the environment ended there.
        truncated: `[N]`, bool: a time limit cut there; the dynamics know nothing of it.
    """

    obs: FloatArray
    actions: NDArray[Any]
    rewards: FloatArray
    next_obs: FloatArray
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rewards)

    def __getitem__(self, index: Any) -> "Transitions":
        """Return the transitions at a slice, mask or index array."""
        return Transitions(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


class ReplayBuffer:
    """Growing store of transitions.

    A share `held_out_fraction` of the transitions, drawn at random, is held out from training once
    and for all: a model that is warm-started never sees what its reward is learned on. The share
    is kept to within one transition at any size, so that neither side is ever empty for long.

    Args:
        obs_size: D_obs.
        action_shape: Shape of one stored action (`ActionCodec.flat_shape`).
        held_out_fraction: In (0, 1).
        seed: Of the assignment.
    """

    def __init__(
        self, obs_size: int, action_shape: tuple[int, ...], held_out_fraction: float, seed: int
    ) -> None:
        self._held_out_fraction = held_out_fraction
        self._rng = np.random.default_rng(seed)
        action_dtype = np.float32 if action_shape else np.int64
        self._size = 0
        self._num_held_out = 0
        self._arrays: dict[str, NDArray[Any]] = {
            "obs": np.zeros((0, obs_size), np.float32),
            "actions": np.zeros((0, *action_shape), action_dtype),
            "rewards": np.zeros(0, np.float32),
            "next_obs": np.zeros((0, obs_size), np.float32),
            "terminated": np.zeros(0, np.bool_),
            "truncated": np.zeros(0, np.bool_),
            "held_out": np.zeros(0, np.bool_),
        }

    def __len__(self) -> int:
        return self._size

    def add(
        self,
        obs: NDArray[Any],
        action: NDArray[Any] | int,
        reward: float,
        next_obs: NDArray[Any],
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Append one transition."""
        if self._size == len(self._arrays["rewards"]):
            self._grow()
        row: dict[str, Any] = {
            "obs": obs,
            "actions": action,
            "rewards": reward,
            "next_obs": next_obs,
            "terminated": terminated,
            "truncated": truncated,
            "held_out": self._draw_held_out(),
        }
        for name, value in row.items():
            self._arrays[name][self._size] = value
        self._num_held_out += row["held_out"]
        self._size += 1

    def all(self) -> Transitions:
        """Return every transition, in order (views, not copies)."""
        return self._select(slice(0, self._size))

    def training(self) -> Transitions:
        """Return the transitions of the inner problem."""
        return self._select(np.flatnonzero(~self._arrays["held_out"][: self._size]))

    def held_out(self) -> Transitions:
        """Return the transitions of the outer problem."""
        return self._select(np.flatnonzero(self._arrays["held_out"][: self._size]))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on identically."""
        arrays = {name: array[: self._size].copy() for name, array in self._arrays.items()}
        return {"arrays": arrays, "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._arrays = {name: np.array(array) for name, array in state["arrays"].items()}
        self._size = len(self._arrays["rewards"])
        self._num_held_out = int(self._arrays["held_out"].sum())
        self._rng.bit_generator.state = state["rng"]

    def _draw_held_out(self) -> bool:
        owed = self._held_out_fraction * (self._size + 1) - self._num_held_out
        return bool(owed > self._rng.random())

    def _select(self, index: Any) -> Transitions:
        names = (name for name in self._arrays if name != "held_out")
        return Transitions(*(self._arrays[name][: self._size][index] for name in names))

    def _grow(self) -> None:
        extra = max(1024, self._size)
        for name, array in self._arrays.items():
            room = np.zeros((extra, *array.shape[1:]), array.dtype)
            self._arrays[name] = np.concatenate([array, room])
