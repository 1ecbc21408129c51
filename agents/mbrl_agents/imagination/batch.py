"""Many imagined environments, side by side in tensors: where they are, when they end and begin."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_agents.imagination.dynamics import ImaginedDynamics, ImaginedStep
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.errors import ConfigError, DatasetError

StartObs = Transitions | NDArray[Any] | Tensor
"""Observations to begin at, `[M, D_obs]`; of transitions, those they begin with."""


@dataclass(frozen=True)
class BatchStep:
    """One step of N environments, those that ended already begun anew.

    Attributes:
        obs: What to act on next, `[N, D_obs]`.
        reward: `[N]`.
        terminated, truncated: `[N]`, bool.
        ended: Which of them ended, ascending, `[K]`.
        final_obs: Where these ended, `[K, D_obs]`.
        uncertainty: Of the step, `[N]`.
    """

    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    ended: Tensor
    final_obs: Tensor
    uncertainty: Tensor


class ImaginedBatch:
    """N environments that begin at recorded observations and are cut after `rollout_length` steps.

    Where the dynamics predict nan or infinity, the episode is truncated at the observation before,
    for it is the model that ended there and not the task: what was the value of that observation
    remains it. The step is paid the lowest reward since `reset` (at most 0): nothing is gained by
    going where the model breaks. The first time warns; `num_broken` counts all.

    With `stay_in_range`, an episode is truncated by the step that leaves the range of `start_obs`
    in any dimension that varies. That step counts, unlike one in which the model breaks; `num_left`
    counts all.

    Args:
        dynamics: What the environments move by.
        start_obs: Where they begin, drawn uniformly: `[M, D_obs]`, M at least 1, finite.
        obs_size: D_obs.
        num_envs: N, at least 1.
        rollout_length: At least 1.
        stay_in_range: See above.
        seed: Of the generator that draws starts and is handed to the dynamics.
        device: Of all tensors.

    Raises:
        ConfigError: If a number is too small.
        DatasetError: If there is nowhere to begin.
    """

    obs: Tensor
    num_steps: Tensor

    def __init__(
        self,
        dynamics: ImaginedDynamics,
        start_obs: StartObs,
        *,
        obs_size: int,
        num_envs: int,
        rollout_length: int,
        stay_in_range: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dynamics = dynamics
        self.obs_size = obs_size
        self.num_envs = _at_least_one("num_envs", num_envs)
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.stay_in_range = stay_in_range
        self.num_broken = self.num_left = 0
        self.set_rollout_length(rollout_length)
        self.set_start_obs(start_obs)
        self.reset(seed)

    def set_rollout_length(self, rollout_length: int) -> None:
        """Cut episodes after so many steps, those under way included.

        Raises:
            ConfigError: If it is less than 1.
        """
        self.rollout_length = _at_least_one("rollout_length", rollout_length)

    def set_start_obs(self, start_obs: StartObs) -> None:
        """Begin at other observations `[M, D_obs]` from the next episode on; they are copied.

        Raises:
            DatasetError: If there are none, or they are of another shape or not finite.
        """
        recorded = start_obs.obs if isinstance(start_obs, Transitions) else start_obs
        if recorded.ndim != 2 or recorded.shape[1] != self.obs_size:
            raise DatasetError(
                f"start_obs has shape {tuple(recorded.shape)}; allowed: (M, {self.obs_size})"
            )
        if len(recorded) == 0:
            raise DatasetError("start_obs is empty: record something to begin at, learn first")
        if isinstance(recorded, Tensor):
            starts = recorded.detach().to(self.device, torch.float32, copy=True)
        else:
            starts = torch.tensor(recorded, dtype=torch.float32, device=self.device)
        if not starts.isfinite().all():
            row = int((~starts.isfinite().all(dim=1)).nonzero()[0])
            raise DatasetError(f"start_obs is not finite in row {row}: {starts[row].tolist()}")
        self._start_obs = starts
        low, high = starts.amin(dim=0), starts.amax(dim=0)
        varies = high > low  # noise alone leaves what never does
        self._range = low.where(varies, -torch.inf), high.where(varies, torch.inf)

    def reset(self, seed: int | None = None) -> Tensor:
        """Begin all episodes anew, from a seed if one is given; return `obs` `[N, D_obs]`."""
        if seed is not None:
            self.generator.manual_seed(seed)
        self.obs = self._draw_starts(self.num_envs)
        self.num_steps = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._lowest_reward = torch.zeros((), device=self.device)
        return self.obs

    @torch.no_grad()
    def step(self, action: Tensor) -> BatchStep:
        """Move all environments by action features `[N, A]`.

        Raises:
            ValueError: If the dynamics return something of the wrong shape.
        """
        imagined = self.dynamics.step(self.obs, action, self.generator)
        self._check_shapes(imagined)
        next_obs, reward = imagined.next_obs.float(), imagined.reward.float()
        terminated = imagined.terminated.bool()
        self.num_steps = self.num_steps + 1
        truncated = self.num_steps >= self.rollout_length
        # A sum is finite only if all its terms are, and much faster than a look at each. Finite
        # terms may still overflow.
        if not (next_obs.sum() + reward.sum()).isfinite():
            broken = ~(next_obs.isfinite().all(dim=1) & reward.isfinite())
            if broken.any():
                self._count_broken(int(broken.sum()))
            next_obs = torch.where(broken[:, None], self.obs, next_obs)
            reward = torch.where(broken, self._lowest_reward, reward)
            terminated, truncated = terminated & ~broken, truncated | broken
        if self.stay_in_range:
            lowest, highest = self._range
            left = ((next_obs < lowest) | (next_obs > highest)).any(dim=1)
            self.num_left += int(left.sum())
            truncated = truncated | left
        self._lowest_reward = torch.minimum(self._lowest_reward, reward.min())
        ended = (terminated | truncated).nonzero()[:, 0]
        final_obs = next_obs[ended]
        self.obs = next_obs
        if len(ended) > 0:
            self.obs = next_obs.index_copy(0, ended, self._draw_starts(len(ended)))
            self.num_steps = self.num_steps.index_fill(0, ended, 0)
        return BatchStep(
            self.obs, reward, terminated, truncated, ended, final_obs, imagined.uncertainty
        )

    def _draw_starts(self, count: int) -> Tensor:
        drawn = torch.randint(
            len(self._start_obs), (count,), generator=self.generator, device=self.device
        )
        return self._start_obs[drawn]

    def _count_broken(self, count: int) -> None:
        if self.num_broken == 0:
            warnings.warn(
                f"the dynamics predict nan or infinity for {count} of {self.num_envs} "
                "environments; their episodes are truncated before it. num_broken counts on",
                RuntimeWarning,
                stacklevel=2,
            )
        self.num_broken += count

    def _check_shapes(self, imagined: ImaginedStep) -> None:
        expected = {
            "next_obs": (self.num_envs, self.obs_size),
            "reward": (self.num_envs,),
            "terminated": (self.num_envs,),
        }
        for name, shape in expected.items():
            found = tuple(getattr(imagined, name).shape)
            if found != shape:
                raise ValueError(f"the dynamics return {name} of shape {found}; allowed: {shape}")


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return a copy that its receiver may change."""
    copied: NDArray[Any] = np.asarray(tensor.to("cpu", copy=True))
    return copied


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"invalid value for {name!r}: {value}; allowed: 1 or more")
    return int(value)
