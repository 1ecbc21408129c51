"""Evaluation episodes, many environments at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.errors import ConfigError, EnvError
from mbrl_bilevel.evaluation.rendering import follow_body
from mbrl_bilevel.types import EnvPredictor, Predictor

MakeEnv = Callable[[str | None], gym.Env[Any, Any]]
"""`make_env(render_mode)` builds a fresh environment, which must end its episodes by itself."""


@runtime_checkable
class BatchState(Protocol):
    """The state of an agent that acts in a batch of episodes, as planners keep it."""

    def select(self, indices: Tensor) -> Self:
        """Return the state of some episodes of the batch.

        `indices` `[B']`, int64 on the CPU, ascending, counts within the batch of the last
        `predict`; the next `predict` gets the observations of just these episodes.
        """
        ...


@dataclass
class Episode:
    """One finished episode of T steps.

    Attributes:
        obs: `[T+1, D]`, or `[T+1]` for Discrete observations, that of the reset first, in the
            environment's own dtype.
        actions: `[T, D_act]`, or `[T]` for Discrete actions.
        rewards: `[T]`, float64.
        terminated: the task itself ended.
        truncated: something outside the task, such as a time limit, ended the episode.
        frames: uint8 `[height, width, 3]`, T+1 of them if the episode was recorded, else none.
        info: what the last step reported.
    """

    obs: NDArray[Any]
    actions: NDArray[np.generic]
    rewards: NDArray[np.float64]
    terminated: bool
    truncated: bool
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(self.rewards.sum())

    @property
    def length(self) -> int:
        """The number of steps T."""
        return len(self.rewards)


def evaluate_episodes(
    agent: Predictor,
    make_env: MakeEnv,
    num_episodes: int,
    seed: int,
    *,
    record_last: bool = False,
    max_parallel: int = 4,
    on_episode: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """Run `num_episodes` episodes with deterministic actions and return them in order.

    Up to `max_parallel` environments advance in lockstep: one `agent.predict` call gets the
    observations `[B, D]` (Discrete: `[B]`) of all of them. An environment whose episode ends leaves
    the batch.
    Episode i is reset with `seed + i`, so `max_parallel` changes the speed but not the
    results, provided that the agent treats the rows of a batch independently; matrix products
    do so up to rounding only.

    The agent's state may be None, a `BatchState`, or, as Stable-Baselines3's recurrent agents
    have it, a tuple of arrays `[num_layers, B, D_hidden]`.

    Args:
        agent: gets `episode_start` `[B]`, all true on the first call of a batch.
        make_env: called once an episode; every environment is closed again.
        num_episodes: at least 1.
        seed: of the first episode.
        record_last: make the last episode's environment with render mode `"rgb_array"` and
            keep a frame of its reset and of each step, by a camera that goes with the body.
        max_parallel: at least 1.
        on_episode: called with each episode as it ends, in the order in which they end.

    Raises:
        ConfigError: `num_episodes` or `max_parallel` is below 1.
        EnvError: the observation space is not Box or Discrete, an observation or a reward is not
            finite, or the environment rendered something that is not a frame.
    """
    for name, value in (("num_episodes", num_episodes), ("max_parallel", max_parallel)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")

    episodes: dict[int, Episode] = {}
    for first in range(0, num_episodes, max_parallel):
        with ExitStack() as open_envs:
            batch = []
            for index in range(first, min(first + max_parallel, num_episodes)):
                record = record_last and index == num_episodes - 1
                env = make_env("rgb_array" if record else None)
                open_envs.callback(env.close)
                if record:
                    follow_body(env)
                batch.append(_RunningEpisode(env, index, seed + index, record))
            for index, episode in _run_in_lockstep(agent, batch):
                episodes[index] = episode
                if on_episode is not None:
                    on_episode(episode)
    return [episodes[index] for index in range(num_episodes)]


def initial_state(agent: Predictor, envs: Sequence[gym.Env[Any, Any]]) -> Any:
    """Return the state that an agent's first `predict` gets, in episodes that begin in `envs`."""
    return agent.initial_state(envs) if isinstance(agent, EnvPredictor) else None


def summarise(episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean and standard deviation of the returns, count and mean length of the episodes.

    `success_rate` is added if every episode's last info has `is_success`.

    Raises:
        ValueError: there are no episodes.
    """
    if not episodes:
        raise ValueError("cannot summarise an empty list of episodes")
    returns = np.array([episode.total_reward for episode in episodes])
    summary: dict[str, float] = {
        "eval_return_mean": float(returns.mean()),
        "eval_return_std": float(returns.std()),
        "eval_episodes": len(episodes),
        "eval_length_mean": float(np.mean([episode.length for episode in episodes])),
    }
    if all("is_success" in episode.info for episode in episodes):
        successes = [bool(episode.info["is_success"]) for episode in episodes]
        summary["success_rate"] = float(np.mean(successes))
    return summary


class _RunningEpisode:
    """An environment and what it has returned since its reset."""

    def __init__(self, env: gym.Env[Any, Any], index: int, seed: int, record: bool) -> None:
        self.env = env
        self.index = index
        self._name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        if not isinstance(env.observation_space, gym.spaces.Box | gym.spaces.Discrete):
            raise EnvError(
                f"{self._name}: the observation space is {env.observation_space}, "
                "only Box and Discrete can be evaluated"
            )
        self._record = record
        self._obs: list[NDArray[Any]] = []
        self._actions: list[NDArray[np.generic]] = []
        self._rewards: list[float] = []
        self._frames: list[NDArray[np.uint8]] = []
        self._terminated = self._truncated = False
        self._info: dict[str, Any] = {}

        obs, _ = env.reset(seed=seed)
        self._observe(obs)

    @property
    def obs(self) -> NDArray[Any]:
        """The latest observation `[D]`."""
        return self._obs[-1]

    @property
    def ended(self) -> bool:
        return self._terminated or self._truncated

    def step(self, action: NDArray[np.generic]) -> None:
        obs, reward, terminated, truncated, self._info = self.env.step(action)
        self._actions.append(np.array(action))
        self._rewards.append(float(reward))
        self._terminated, self._truncated = bool(terminated), bool(truncated)
        if not np.isfinite(self._rewards[-1]):
            raise EnvError(f"{self._where()}: the reward is {self._rewards[-1]}")
        self._observe(obs)

    def to_episode(self) -> Episode:
        return Episode(
            obs=np.stack(self._obs),
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards, dtype=np.float64),
            terminated=self._terminated,
            truncated=self._truncated,
            frames=self._frames,
            info=self._info,
        )

    def _observe(self, obs: Any) -> None:
        # A copy: some environments return the same array at every step.
        obs = np.array(obs)
        if not np.isfinite(obs).all():
            entry = tuple(int(i) for i in np.argwhere(~np.isfinite(obs))[0])
            label = entry[0] if len(entry) == 1 else entry
            raise EnvError(f"{self._where()}: observation entry {label} is {obs[entry]}")
        self._obs.append(obs)
        if self._record:
            self._frames.append(self._render())

    def _render(self) -> NDArray[np.uint8]:
        frame: Any = self.env.render()
        if not (
            isinstance(frame, np.ndarray)
            and frame.dtype == np.uint8
            and frame.ndim == 3
            and frame.shape[-1] == 3
        ):
            got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame)
            raise EnvError(
                f"{self._where()}: render() must return uint8 (height, width, 3), got {got}"
            )
        return np.array(frame)

    def _where(self) -> str:
        return f"{self._name}, episode {self.index}, step {len(self._rewards)}"


def _run_in_lockstep(
    agent: Predictor, batch: list[_RunningEpisode]
) -> Iterator[tuple[int, Episode]]:
    """Step all episodes of the batch together; yield each, with its index, as it ends."""
    state = initial_state(agent, [running.env for running in batch])
    episode_start = True
    while batch:
        actions, state = agent.predict(
            np.stack([running.obs for running in batch]),
            state,
            np.full(len(batch), episode_start),
            deterministic=True,
        )
        episode_start = False
        # A copy, as the agent may reuse its array and the episodes keep their rows.
        actions = np.array(actions)
        if actions.shape[:1] != (len(batch),):
            raise ValueError(
                f"{type(agent).__name__}.predict must return one action for each of "
                f"{len(batch)} observations, got actions of shape {actions.shape}"
            )
        for running, action in zip(batch, actions, strict=True):
            running.step(action)
            if running.ended:
                yield running.index, running.to_episode()

        kept = [i for i, running in enumerate(batch) if not running.ended]
        if kept and len(kept) < len(batch):
            state = _select(state, kept)
        batch = [batch[i] for i in kept]


def _select(state: Any, kept: list[int]) -> Any:
    """The agent state of the episodes at the positions `kept` of the batch."""
    if state is None:
        return None
    if isinstance(state, BatchState):
        return state.select(torch.tensor(kept))
    if isinstance(state, tuple) and all(isinstance(part, np.ndarray) for part in state):
        return tuple(part[:, kept] for part in state)
    raise TypeError(
        "an agent's state must be None, have a method select(indices), or be a tuple of arrays "
        f"with the batch on axis 1; got {type(state).__name__}"
    )
