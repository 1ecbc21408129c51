"""Batches of recorded and of imagined transitions, mixed."""

from typing import Any

import torch
from stable_baselines3.common.buffers import ReplayBuffer as SB3ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from mbrl_agents.policies.transitions import TransitionRing
from mbrl_bilevel.data import ActionCodec, ReplayBuffer


class RealTransitions(TransitionRing):
    """Everything recorded so far, as tensors.

    Arguments are those of `TransitionRing`, without the capacity.
    """

    def __init__(self, obs_size: int, codec: ActionCodec, generator: torch.Generator) -> None:
        super().__init__(1, obs_size, codec, generator)
        self._codec = codec

    @property
    def obs(self) -> Tensor:
        """Where the transitions begin, `[len(self), D_obs]`, in the order of recording."""
        return self._columns["obs"][: len(self)]

    def catch_up(self, buffer: ReplayBuffer) -> None:
        """Take over what was recorded in `buffer` since the last time.

        There is always room: the oldest stay, in their order.
        """
        new = buffer.all()[len(self) :]
        if len(new) == 0:
            return
        if len(buffer) > self.capacity:
            self.set_capacity(2 * len(buffer))
        device = self._codec.device
        features = self._codec.encode(new.actions)
        self.add(
            torch.as_tensor(new.obs, device=device),
            features.argmax(dim=-1) if self._codec.is_discrete else features,
            torch.as_tensor(new.rewards, device=device),
            torch.as_tensor(new.next_obs, device=device),
            torch.as_tensor(new.terminated, device=device),
        )


class MixedReplay:
    """What an off-policy algorithm samples from: a fixed share of each batch is real.

    Args:
        real: Recorded transitions.
        imagined: Rolled out in the model.
        real_data_ratio: Share of real ones in each batch, 0 to 1.
        reward_scale: Factor of all rewards.
    """

    def __init__(
        self,
        real: TransitionRing,
        imagined: TransitionRing,
        real_data_ratio: float,
        reward_scale: float = 1.0,
    ) -> None:
        self.real = real
        self.imagined = imagined
        self.real_data_ratio = real_data_ratio
        self.reward_scale = reward_scale

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """Return a batch; `env` is Stable-Baselines3's, which has nothing to normalise here."""
        del env
        batch = self._mixed(batch_size)
        return batch._replace(rewards=self.reward_scale * batch.rewards)

    def _mixed(self, batch_size: int) -> ReplayBufferSamples:
        num_real = num_real_rows(batch_size, self.real_data_ratio)
        if num_real == 0:
            return self.imagined.sample(batch_size)
        if num_real == batch_size:
            return self.real.sample(batch_size)
        imagined = self.imagined.sample(batch_size - num_real)
        return concatenated(self.real.sample(num_real), imagined)


class SB3BufferWithReal(SB3ReplayBuffer):
    """Stable-Baselines3's own buffer, with a share of recorded transitions in each batch.

    Args:
        real: Recorded transitions.
        real_data_ratio: Their share in each batch, 0 to 1.
    """

    def __init__(
        self, *args: Any, real: TransitionRing, real_data_ratio: float, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._real = real
        self._real_data_ratio = real_data_ratio

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """Return a batch."""
        num_real = num_real_rows(batch_size, self._real_data_ratio)
        if num_real == 0:
            return super().sample(batch_size, env)
        if num_real == batch_size:
            return self._real.sample(batch_size)
        imagined = super().sample(batch_size - num_real, env)
        return concatenated(self._real.sample(num_real), imagined)


def num_real_rows(batch_size: int, real_data_ratio: float) -> int:
    """Return how many rows of a batch are recorded ones: at least 1 of them unless none is due."""
    if real_data_ratio == 0:
        return 0
    return max(1, round(real_data_ratio * batch_size))


def concatenated(first: ReplayBufferSamples, second: ReplayBufferSamples) -> ReplayBufferSamples:
    """Return two batches as one; neither is of an n-step buffer."""
    pairs = zip(first[:5], second[:5], strict=True)
    return ReplayBufferSamples(*(torch.cat(pair) for pair in pairs))
