"""Episodes in memory (or mapped from a file), and parts of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mbrl_bilevel.data.datasets.arrays import DEFAULT_MEMORY_LIMIT, empty_transitions
from mbrl_bilevel.data.replay_buffer import FloatArray, Transitions
from mbrl_bilevel.errors import DatasetError

IndexArray = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Stretches of W episodes, to predict from their first observation on.

    Attributes:
        obs: First observations, `[W, D_obs]`.
        actions: Stored actions, `[W, K, D_act]` for Box and `[W, K]` for Discrete; the last one
            again after an episode's end.
        future_obs: What followed each action, `[W, K, D_obs]`; the last one again after the end.
        num_steps: `[W]`, how many of the K steps the episode has.
    """

    obs: FloatArray
    actions: NDArray[Any]
    future_obs: FloatArray
    num_steps: IndexArray

    def __len__(self) -> int:
        return len(self.obs)


@dataclass(frozen=True)
class EpisodeDataset:
    """M recorded episodes with N steps in all, one after the other.

    Attributes:
        steps: The N transitions, in order; the arrays may be mapped from a file.
        starts: `[M]`, the row at which each episode begins, ascending from 0.
        name: The dataset's id, or the path it was read from.
        observation_space: A one-dimensional Box.
        action_space: A bounded Box, or a Discrete space.
        env_id: Of the environment it was recorded in, if that is known.
        metadata: What the dataset says about itself.
        memory_limit: Bytes of a selection of transitions that may lie in memory.
    """

    steps: Transitions
    starts: IndexArray
    name: str
    observation_space: gym.spaces.Box
    action_space: gym.spaces.Box | gym.spaces.Discrete
    env_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    memory_limit: int = DEFAULT_MEMORY_LIMIT

    @property
    def obs(self) -> FloatArray:
        """`[N, D_obs]`."""
        return self.steps.obs

    @property
    def actions(self) -> NDArray[Any]:
        """Stored actions, `[N, D_act]` for Box and `[N]` for Discrete."""
        return self.steps.actions

    @property
    def rewards(self) -> FloatArray:
        """`[N]`."""
        return self.steps.rewards

    @property
    def next_obs(self) -> FloatArray:
        """`[N, D_obs]`."""
        return self.steps.next_obs

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """`[N]`."""
        return self.steps.terminated

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """`[N]`."""
        return self.steps.truncated

    @property
    def num_episodes(self) -> int:
        """M."""
        return len(self.starts)

    @property
    def num_steps(self) -> int:
        """N."""
        return len(self.steps)

    @property
    def lengths(self) -> IndexArray:
        """Steps of each episode, `[M]`."""
        return np.diff(self.starts, append=self.num_steps)

    @property
    def returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode, `[M]`."""
        return np.add.reduceat(self.rewards, self.starts, dtype=np.float64)

    def split(self, fractions: Sequence[float], seed: int) -> list[IndexArray]:
        """Deal the episodes out at random into parts that share none, each with at least one.

        Args:
            fractions: Of the episodes; positive, and 1 together. Off by less than one episode
                where no part would be empty otherwise.
            seed: Of the order in which they are dealt out.

        Returns:
            The episodes' numbers, ascending, for each part.

        Raises:
            ValueError: If the fractions are not positive or do not add up to 1.
            DatasetError: If there are fewer episodes than parts.
        """
        shares = np.asarray(fractions, dtype=np.float64)
        if not (shares > 0).all() or not np.isclose(shares.sum(), 1.0):
            raise ValueError(f"fractions must be positive and add up to 1, got {tuple(fractions)}")
        if self.num_episodes < len(shares):
            episodes = "1 episode" if self.num_episodes == 1 else f"{self.num_episodes} episodes"
            raise DatasetError(
                f"dataset {self.name} has {episodes} and cannot be split by episode into "
                f"{len(shares)} parts; allowed: at least {len(shares)} episodes"
            )
        order = np.random.default_rng(seed).permutation(self.num_episodes)
        ends = np.cumsum(_part_sizes(shares, self.num_episodes))
        return [np.sort(part).astype(np.int64) for part in np.split(order, ends[:-1])]

    def rows(self, episodes: ArrayLike) -> IndexArray:
        """Return the row numbers of episodes, in the order given."""
        chosen = np.asarray(episodes, dtype=np.int64)
        if not chosen.size:
            return np.zeros(0, np.int64)
        lengths = self.lengths
        return np.concatenate(
            [np.arange(self.starts[e], self.starts[e] + lengths[e]) for e in chosen]
        )

    def transitions(self, episodes: ArrayLike) -> Transitions:
        """Return the transitions of episodes, in the order given: copies, within `memory_limit`."""
        chosen = np.asarray(episodes, dtype=np.int64)
        lengths = self.lengths
        action_shape = self.actions.shape[1:]
        copies = empty_transitions(
            int(lengths[chosen].sum()), self.obs.shape[1], action_shape, self.memory_limit
        )
        end = 0
        for episode in chosen:
            begin, end = end, end + int(lengths[episode])
            part = self.steps[self.starts[episode] : self.starts[episode] + lengths[episode]]
            for name in Transitions.__dataclass_fields__:
                getattr(copies, name)[begin:end] = getattr(part, name)
        return copies

    def windows(self, episodes: ArrayLike, length: int, max_windows: int) -> Windows:
        """Return stretches of up to `length` steps (K), spread evenly over episodes.

        Those that the end of their episode cuts short are kept (`Windows.num_steps` says where)
        only of episodes that are shorter than `length` themselves.

        Args:
            episodes: Which.
            length: K, at least 1.
            max_windows: W at most; fewer where that would take the same start twice.
        """
        chosen = np.asarray(episodes, dtype=np.int64)
        lengths = self.lengths[chosen]
        ranges = [
            np.arange(start, start + max(1, steps - length + 1))
            for start, steps in zip(self.starts[chosen], lengths, strict=True)
        ]
        candidates = np.concatenate(ranges)
        last_rows = np.repeat(self.starts[chosen] + lengths - 1, [len(r) for r in ranges])
        count = min(max_windows, len(candidates))
        picked = np.linspace(0, len(candidates) - 1, count).round().astype(np.int64)
        first, last = candidates[picked], last_rows[picked]
        rows = np.minimum(first[:, None] + np.arange(length), last[:, None])
        return Windows(
            obs=np.asarray(self.obs[first]),
            actions=np.asarray(self.actions[rows]),
            future_obs=np.asarray(self.next_obs[rows]),
            num_steps=np.minimum(last - first + 1, length),
        )


def _part_sizes(shares: NDArray[np.float64], total: int) -> IndexArray:
    """Whole numbers that add up to `total`: rounded down, the rest to the largest remainders."""
    exact = shares * total
    sizes = np.floor(exact).astype(np.int64)
    for part in np.argsort(sizes - exact, kind="stable")[: total - sizes.sum()]:
        sizes[part] += 1
    while (sizes == 0).any():
        sizes[sizes.argmin()] += 1
        sizes[sizes.argmax()] -= 1
    return sizes
