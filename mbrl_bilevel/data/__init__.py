"""Transitions: spaces, storage and batches."""

from mbrl_bilevel.data.actions import ActionCodec, observation_size
from mbrl_bilevel.data.bootstrap import BootstrapBatches
from mbrl_bilevel.data.replay_buffer import ReplayBuffer, Transitions

__all__ = [
    "ActionCodec",
    "BootstrapBatches",
    "ReplayBuffer",
    "Transitions",
    "observation_size",
]
