"""An agent's life in one environment, step by step, and its exact continuation."""

import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import EnvError
from mbrl_bilevel.runs import derive_seed

REWARD_WINDOW = 100
"""Episodes that `rollout/ep_rew_mean` averages over, as Stable-Baselines3 does."""


@dataclass(frozen=True)
class Step:
    """One transition, and the episode that it ended, if it did."""

    obs: NDArray[Any]
    reward: float
    next_obs: NDArray[Any]
    terminated: bool
    truncated: bool

    @property
    def ends_episode(self) -> bool:
        return self.terminated or self.truncated


class Interaction:
    """Steps an environment and starts its episodes.

    Episode k starts from `reset(seed=...)` with a seed derived from the run's and k. Neither the
    environment nor its generators need to be stored, therefore: an interrupted episode is brought
    back by its seed and its actions.

    Args:
        env: The environment; not reset yet.
        seed: The run's.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        self.env = env
        self.obs: NDArray[Any] = np.zeros(0)
        self.episode = 0
        self.is_new_episode = True
        self.returns: deque[float] = deque(maxlen=REWARD_WINDOW)
        self.lengths: deque[int] = deque(maxlen=REWARD_WINDOW)
        self._seed = seed
        self._actions: list[Any] = []
        self._return = 0.0

    def begin_if_needed(self) -> None:
        """Reset the environment if no episode is under way."""
        if self.is_new_episode:
            obs, _ = self.env.reset(seed=derive_seed(self._seed, "episode", self.episode))
            self.obs = self._checked(obs, "reset")

    def step(self, action: Any) -> Step:
        """Take one step and keep the books.

        Raises:
            EnvError: If the environment returns nan or infinity.
        """
        next_obs, reward, terminated, truncated, _ = self.env.step(action)
        next_obs = self._checked(next_obs, "step")
        if not np.isfinite(float(reward)):
            raise EnvError(f"{self._where()}: step returned reward {reward}; it must be finite")
        step = Step(self.obs, float(reward), next_obs, bool(terminated), bool(truncated))
        self._actions.append(action)
        self._return += step.reward
        self.obs = next_obs
        self.is_new_episode = step.ends_episode
        if step.ends_episode:
            self.returns.append(self._return)
            self.lengths.append(len(self._actions))
            self.episode += 1
            self._actions, self._return = [], 0.0
        return step

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on identically."""
        return {
            "episode": self.episode,
            "is_new_episode": self.is_new_episode,
            "actions": np.stack(self._actions) if self._actions else None,
            "obs": self.obs,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was called, by replaying the episode under way.

        Warns if the environment does not arrive there: it is not deterministic, and a new episode
        is started.
        """
        self.episode = state["episode"]
        self.obs = state["obs"]
        self._set_record(state)
        self._forget_episode()
        if state["is_new_episode"]:
            return
        self.begin_if_needed()
        self.is_new_episode = False
        for action in state["actions"]:
            self.step(action)
            if self.is_new_episode:
                break
        if self.is_new_episode or not np.array_equal(self.obs, state["obs"]):
            warnings.warn(
                f"{env_name(self.env)} does not repeat itself under the same seed and actions: "
                "the run goes on with a new episode and will differ from an uninterrupted one",
                stacklevel=2,
            )
            self.episode = state["episode"] + 1
            self._set_record(state)  # without the failed replay, should it have ended
            self._forget_episode()

    def _set_record(self, state: dict[str, Any]) -> None:
        self.returns = deque(state["returns"], REWARD_WINDOW)
        self.lengths = deque(state["lengths"], REWARD_WINDOW)

    def _forget_episode(self) -> None:
        self.is_new_episode, self._actions, self._return = True, [], 0.0

    def _checked(self, returned: Any, call: str) -> NDArray[Any]:
        obs = np.array(returned)  # a copy: environments may reuse their array
        if not np.isfinite(obs).all():
            bad = np.flatnonzero(~np.isfinite(obs)).tolist()
            raise EnvError(
                f"{self._where()}: {call} returned an observation that is not finite at "
                f"{'index' if len(bad) == 1 else 'indices'} {', '.join(map(str, bad))}: {obs}"
            )
        return obs

    def _where(self) -> str:
        return f"{env_name(self.env)}, episode {self.episode}, step {len(self._actions)}"
