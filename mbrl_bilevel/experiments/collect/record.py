"""One episode, with everything that a dataset keeps of it."""

from typing import Any

import gymnasium as gym
import numpy as np

from mbrl_bilevel.data.datasets import MinariEpisode
from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import EnvError
from mbrl_bilevel.experiments.collect.policies import Policy

LONGEST_EPISODE = 100_000
"""Steps after which an episode is taken to be one that never ends."""


def record_episode(
    env: gym.Env[Any, Any], policy: Policy, env_seed: int, policy_seed: int
) -> MinariEpisode:
    """Run an episode; the same seeds give the same one, whatever came before.

    Raises:
        EnvError: If an observation or a reward is not finite, or the episode does not end.
    """
    first_obs, _ = env.reset(seed=env_seed)
    policy.start(policy_seed)
    # Copies throughout: some environments and policies return the same array at every step.
    obs, actions = [np.array(first_obs)], []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        _check_finite(env, "observation", obs[-1], len(rewards))
        action = np.array(policy.act(obs[-1]))
        # Gymnasium's Discrete environments look the action up: they want an integer.
        next_obs, reward, terminated, truncated, _ = env.step(
            action if action.ndim else action.item()
        )
        _check_finite(env, "reward", np.array(reward), len(rewards))
        obs.append(np.array(next_obs))
        actions.append(action)
        rewards.append(float(reward))
        if len(rewards) == LONGEST_EPISODE and not (terminated or truncated):
            raise EnvError(
                f"{env_name(env)}: an episode has not ended after {LONGEST_EPISODE} steps; "
                "env.kwargs.max_episode_steps limits it"
            )
    _check_finite(env, "observation", obs[-1], len(rewards))
    is_last = np.arange(len(rewards)) == len(rewards) - 1
    return MinariEpisode(
        obs=np.stack(obs),
        actions=np.stack(actions),
        rewards=np.array(rewards, dtype=np.float64),
        terminated=is_last & bool(terminated),
        truncated=is_last & bool(truncated),
        seed=env_seed,
    )


def _check_finite(env: gym.Env[Any, Any], what: str, value: Any, step: int) -> None:
    if not np.isfinite(value).all():
        raise EnvError(f"{env_name(env)}, step {step} of an episode: the {what} is {value}")
