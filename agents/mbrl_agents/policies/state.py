"""What an algorithm of Stable-Baselines3 goes on from, without any code in it."""

import copy
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.distributions import StateDependentNoiseDistribution

from mbrl_bilevel.runs import generator_state, set_generator_state

COUNTERS = (
    "num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_episode_num", "_n_updates",
    "_current_progress_remaining", "_n_calls", "exploration_rate",
)  # fmt: skip
"""Numbers that training goes on from; an algorithm has some of them."""

BUFFER_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
NOISE_MATRICES = ("exploration_mat", "exploration_matrices")


def algorithm_state(algorithm: BaseAlgorithm) -> dict[str, Any]:
    """Return copies of all that `load_algorithm_state` needs: plain values, tensors and arrays.

    Not in it: the global generators that it draws from (`OwnRandomness`), and where its
    environment stands. To go on bit for bit, begin anew there: `algorithm.set_env(env)` before
    each `algorithm.learn(...)`.
    """
    _, variables = algorithm._get_torch_save_params()
    buffer = getattr(algorithm, "replay_buffer", None)
    noise = _state_dependent_noise(algorithm)
    state = {
        "parameters": algorithm.get_parameters(),
        "variables": {name: attrgetter(name)(algorithm).data for name in variables},
        "counters": {
            name: getattr(algorithm, name) for name in COUNTERS if hasattr(algorithm, name)
        },
        "random_actions": generator_state(algorithm.action_space.np_random),
        "noise": {name: getattr(noise, name).data for name in NOISE_MATRICES} if noise else None,
    }
    copied: dict[str, Any] = copy.deepcopy(state)
    copied["replay_buffer"] = _buffer_state(buffer) if isinstance(buffer, ReplayBuffer) else None
    return copied


def load_algorithm_state(algorithm: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Put what `algorithm_state` returned into an algorithm made with the same settings.

    Raises:
        KeyError, RuntimeError, ValueError: If it does not fit.
    """
    # Optimisers take over what they are given and change it in place.
    algorithm.set_parameters(copy.deepcopy(dict(state["parameters"])), exact_match=True)
    with torch.no_grad():
        for name, value in state["variables"].items():
            attrgetter(name)(algorithm).data.copy_(value)
    for name, value in state["counters"].items():
        setattr(algorithm, name, value)
    set_generator_state(algorithm.action_space.np_random, state["random_actions"])
    noise = _state_dependent_noise(algorithm)
    if noise is not None:
        for name, value in state["noise"].items():
            setattr(noise, name, value.to(algorithm.device, copy=True))
    buffer = getattr(algorithm, "replay_buffer", None)
    if isinstance(buffer, ReplayBuffer):
        _load_buffer_state(buffer, state["replay_buffer"])


def _state_dependent_noise(algorithm: BaseAlgorithm) -> StateDependentNoiseDistribution | None:
    """Return the distribution whose noise lasts for several steps (gSDE), if there is one."""
    owner = getattr(algorithm.policy, "actor", algorithm.policy)
    distribution = getattr(owner, "action_dist", None)
    return distribution if isinstance(distribution, StateDependentNoiseDistribution) else None


def _buffer_state(buffer: ReplayBuffer) -> dict[str, Any]:
    arrays = {name: getattr(buffer, name)[: buffer.size()].copy() for name in BUFFER_ARRAYS}
    return {"arrays": arrays, "pos": buffer.pos, "full": buffer.full}


def _load_buffer_state(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    for name, array in state["arrays"].items():
        getattr(buffer, name)[: len(array)] = array
    buffer.pos, buffer.full = state["pos"], state["full"]
