"""Which reward and termination an agent plans with: exact ones, where there are any."""

import warnings
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch

from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.environments import env_name
from mbrl_bilevel.types import RewardFn, TerminationFn
from mbrl_envs.tasks import find_task


def exact_functions(
    env: gym.Env[Any, Any],
    reward_fn: RewardFn | Literal["auto"] | None,
    termination_fn: TerminationFn | Literal["auto"] | None,
) -> tuple[RewardFn | None, TerminationFn | None]:
    """Replace `"auto"` by the task's exact function, or None (to be learned) if it has none."""
    task = find_task(env)
    if reward_fn == "auto":
        reward_fn = task.reward_fn if task is not None else None
    if termination_fn == "auto":
        termination_fn = task.termination_fn if task is not None else None
    for name, function in (("reward_fn", reward_fn), ("termination_fn", termination_fn)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}={function!r}; allowed: a function, 'auto' or None")
    return reward_fn, termination_fn


def check_against_data(
    env: gym.Env[Any, Any],
    codec: ActionCodec,
    transitions: Transitions,
    reward_fn: RewardFn | None,
    termination_fn: TerminationFn | None,
) -> None:
    """Warn if a function that claims to be exact disagrees with what was recorded."""
    device = codec.device
    obs = torch.as_tensor(transitions.obs, device=device)
    action = codec.decode(codec.encode(transitions.actions))
    next_obs = torch.as_tensor(transitions.next_obs, device=device)
    if reward_fn is not None:
        predicted = reward_fn(obs, action, next_obs).cpu().numpy()
        error = np.abs(predicted - transitions.rewards)
        # Negated, so that nan counts as a disagreement.
        if not (error <= 1e-2 * (1 + np.abs(transitions.rewards))).all():
            warnings.warn(
                f"reward_fn differs from the rewards of {env_name(env)} by up to "
                f"{error.max():.3g}: plans maximise something else than the environment pays; "
                "reward_fn=None learns the reward",
                stacklevel=2,
            )
    if termination_fn is not None:
        ended = termination_fn(obs, action, next_obs).cpu().numpy()
        wrong = int((ended != transitions.terminated).sum())
        if wrong:
            warnings.warn(
                f"termination_fn is wrong on {wrong} of {len(ended)} transitions of "
                f"{env_name(env)}; termination_fn=None learns it",
                stacklevel=2,
            )
