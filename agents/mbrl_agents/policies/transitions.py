"""Transitions as tensors, in the form that Stable-Baselines3's algorithms learn from."""

from collections.abc import Mapping

import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from mbrl_bilevel.data import ActionCodec

_FIELDS = ("obs", "actions", "next_obs", "terminated", "rewards")


class TransitionRing:
    """The newest transitions, as many as there is room for.

    Box actions are scaled to -1..1, as `ActionCodec.encode` and Stable-Baselines3 both do; Discrete
    ones are an index. `terminated` alone ends a value: beyond a time limit, and beyond the end of a
    rollout, it goes on.

    Args:
        capacity: Of transitions, at least 1.
        obs_size: D_obs.
        codec: Of the actions; its device is where the tensors live.
        generator: Draws what is sampled; on the CPU.
    """

    def __init__(
        self, capacity: int, obs_size: int, codec: ActionCodec, generator: torch.Generator
    ) -> None:
        action_size = 1 if codec.is_discrete else codec.size
        sizes = {"obs": obs_size, "actions": action_size, "next_obs": obs_size}
        self._device = codec.device
        self._generator = generator
        self._columns = {
            name: torch.zeros(
                capacity,
                sizes.get(name, 1),
                dtype=torch.int64 if name == "actions" and codec.is_discrete else torch.float32,
                device=codec.device,
            )
            for name in _FIELDS
        }
        self._size = 0
        self._position = 0

    def __len__(self) -> int:
        return self._size

    @property
    def capacity(self) -> int:
        """How many transitions there is room for."""
        return len(self._columns["rewards"])

    def add(
        self, obs: Tensor, actions: Tensor, rewards: Tensor, next_obs: Tensor, terminated: Tensor
    ) -> None:
        """Append N transitions in place of the oldest.

        Args:
            obs: `[N, D_obs]`.
            actions: `[N, A]`.
            rewards: `[N]`.
            next_obs: `[N, D_obs]`.
            terminated: `[N]`.
        """
        columns = dict(zip(_FIELDS, (obs, actions, next_obs, terminated, rewards), strict=True))
        count = min(len(rewards), self.capacity)
        rows = torch.arange(self._position, self._position + count, device=self._device)
        for name, column in columns.items():
            new = column[-count:].reshape(count, -1).to(self._columns[name].dtype)
            self._columns[name].index_copy_(0, rows % self.capacity, new)
        self._position = (self._position + count) % self.capacity
        self._size = min(self._size + count, self.capacity)

    def set_capacity(self, capacity: int) -> None:
        """Make room for more or fewer transitions; the newest stay."""
        if capacity == self.capacity:
            return
        newest = {name: column[-capacity:] for name, column in self.state_dict().items()}
        for name, column in self._columns.items():
            self._columns[name] = column.new_zeros(capacity, column.shape[1])
        self._fill(newest)

    def clear(self) -> None:
        """Forget all transitions."""
        self._size = self._position = 0

    def sample(self, batch_size: int) -> ReplayBufferSamples:
        """Return transitions drawn uniformly, with replacement."""
        drawn = torch.randint(self._size, (batch_size,), generator=self._generator)
        rows = self._rows(drawn.to(self._device))
        return ReplayBufferSamples(*(self._columns[name][rows] for name in _FIELDS))

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the transitions, the oldest first."""
        rows = self._rows(torch.arange(self._size, device=self._device))
        return {name: column[rows] for name, column in self._columns.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Hold what `state_dict` returned, with room for no more."""
        self.clear()
        self.set_capacity(max(1, len(state["rewards"])))
        self._fill(state)

    def _rows(self, ages: Tensor) -> Tensor:
        """Return where transitions lie, 0 the oldest.

        Counted by age, a ring that comes from a checkpoint draws what the stored one would have.
        """
        is_full = self._size == self.capacity
        return (ages + self._position) % self.capacity if is_full else ages

    def _fill(self, columns: Mapping[str, Tensor]) -> None:
        count = len(columns["rewards"])
        for name, column in columns.items():
            self._columns[name][:count] = column.to(self._device)
        self._size, self._position = count, count % self.capacity
