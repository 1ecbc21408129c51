"""Observations with dimensions that have nothing to do with the task."""

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from mbrl_bilevel.errors import EnvError

Kind = Literal["autonomous", "noise"]
KINDS = ("autonomous", "noise")


class Distractors(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Appends dimensions that no action moves and no reward depends on.

    A model that is trained to predict everything spends itself on them, and an input that is
    related to nothing invites it to overfit. What matters for the task is what it was: the first
    D dimensions of the observation, the reward, and the episodes' ends.

    - `"autonomous"`: a system of its own, `z' = tanh(W z + noise_std * e)`, e standard normal, with
      a matrix W of independent `N(0, 1 / num_distractors)` entries that is the same in all
      episodes. It starts from `tanh(e)`.
    - `"noise"`: `z' = tanh(noise_std * e)`, new at every step.

    Args:
        env: Its observations are a one-dimensional Box.
        num_distractors: How many dimensions, at least 1.
        kind: See above.
        noise_std: Non-negative; without noise the autonomous system can be predicted.
        obs_noise: Standard deviation of Gaussian noise on each of the environment's own
            dimensions, new at every step. The rewards stay those of the state without noise.
        matrix_seed: Draws W.

    Raises:
        EnvError: The observations are no vector, or an argument is impossible.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        num_distractors: int = 20,
        kind: Kind = "autonomous",
        noise_std: float = 1.0,
        obs_noise: float = 0.0,
        matrix_seed: int = 0,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            num_distractors=num_distractors,
            kind=kind,
            noise_std=noise_std,
            obs_noise=obs_noise,
            matrix_seed=matrix_seed,
        )
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise EnvError(f"distractors are appended to a Box of one dimension, not to {space}")
        if (
            isinstance(num_distractors, bool)
            or num_distractors != int(num_distractors)
            or (num_distractors < 1)
        ):
            raise EnvError(f"num_distractors={num_distractors!r}; it must be at least 1")
        if kind not in KINDS:
            raise EnvError(f"kind={kind!r}; allowed: {', '.join(KINDS)}")
        for name, value in (("noise_std", noise_std), ("obs_noise", obs_noise)):
            if not (np.isfinite(value) and value >= 0):
                raise EnvError(f"{name}={value!r}; it must be finite and not negative")
        self._kind = kind
        self._noise_std = float(noise_std)
        self._obs_noise = float(obs_noise)
        matrix = np.random.default_rng(matrix_seed).standard_normal((num_distractors,) * 2)
        self._matrix = matrix / np.sqrt(num_distractors)
        self._rng = np.random.default_rng()
        self._distractors = np.zeros(num_distractors)
        bound = np.ones(num_distractors, space.dtype)
        low, high = (space.low, space.high) if obs_noise == 0 else (-np.inf, np.inf)
        self.observation_space = spaces.Box(
            np.concatenate([np.broadcast_to(low, space.shape), -bound]).astype(space.dtype),
            np.concatenate([np.broadcast_to(high, space.shape), bound]).astype(space.dtype),
            dtype=space.dtype.type,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            # A generator of its own: the environment's episodes are those without distractors.
            self._rng = np.random.default_rng([seed, 1])
        self._distractors = np.tanh(self._rng.standard_normal(self._distractors.shape))
        return self._observe(obs), info

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        drive = self._noise_std * self._rng.standard_normal(self._distractors.shape)
        if self._kind == "autonomous":
            drive += self._matrix @ self._distractors
        self._distractors = np.tanh(drive)
        return self._observe(obs), float(reward), terminated, truncated, info

    def _observe(self, obs: NDArray[Any]) -> NDArray[Any]:
        if self._obs_noise > 0:
            obs = obs + self._obs_noise * self._rng.standard_normal(obs.shape)
        observed = np.concatenate([obs, self._distractors])
        return observed.astype(self.observation_space.dtype)


DISTRACTED = {
    "CartPoleSwingUpDistractors-v0": ("CartPoleSwingUp-v0", 5),
    "InvertedPendulumDistractors-v0": ("InvertedPendulum-v5", 4),
    "PendulumDistractors-v0": ("Pendulum-v1", 3),
    "ReacherDistractors-v0": ("Reacher-v5", 10),
}
"""Ids, what they are made of, and how many dimensions that observes."""
SETTINGS = ("num_distractors", "kind", "noise_std", "obs_noise", "matrix_seed")


def make_with_distractors(base_id: str, **kwargs: Any) -> Distractors:
    """Return the environment `base_id` with distractors; its time limit is left to the caller.

    Args:
        base_id: In Gymnasium's registry.
        **kwargs: Arguments of `Distractors`, and of the environment.
    """
    own = {name: kwargs.pop(name) for name in SETTINGS if name in kwargs}
    base = gym.make(base_id, disable_env_checker=True, **kwargs).unwrapped
    return Distractors(base, **own)
