"""What imagined environments have in common, whosever interface they follow."""

from abc import ABC, abstractmethod
from typing import Any, Self, Unpack

import gymnasium as gym
import torch
from gymnasium import spaces

from mbrl_agents.base import ModelBasedAgent
from mbrl_agents.imagination.batch import BatchStep, ImaginedBatch, StartObs
from mbrl_agents.imagination.dynamics import DynamicsOptions, ImaginedDynamics, LearnedDynamics
from mbrl_agents.imagination.spaces import encode_actions, float32_box
from mbrl_bilevel.data import ActionCodec, observation_size
from mbrl_bilevel.runs import derive_seed


class ImaginedEnvs(ABC):
    """N imagined environments in one batch, with the spaces of a real one.

    Args:
        dynamics: What the environments move by.
        start_obs: Where they begin, drawn uniformly, `[M, D_obs]`; copied.
        num_envs: N.
        rollout_length: Steps after which an episode is truncated.
        observation_space: The real environment's; these ones declare it in float32.
        action_space: The real environment's.
        stay_in_range: Truncate an episode by the step that leaves the range of `start_obs`, too.
        seed: Of starts, members and noise, until a reset with another.
        device: Where `dynamics` compute.

    Raises:
        ConfigError: If `num_envs` or `rollout_length` is less than 1.
        DatasetError: If `start_obs` is empty, not finite or of the wrong shape.
        EnvError: If a space is not supported.
    """

    def __init__(
        self,
        dynamics: ImaginedDynamics,
        start_obs: StartObs,
        *,
        num_envs: int,
        rollout_length: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        stay_in_range: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.codec = ActionCodec(action_space, device)
        self.batch = ImaginedBatch(
            dynamics,
            start_obs,
            obs_size=observation_size(observation_space),
            num_envs=num_envs,
            rollout_length=rollout_length,
            stay_in_range=stay_in_range,
            seed=seed,
            device=device,
        )
        self._declare(num_envs, float32_box(observation_space), action_space)

    @classmethod
    def from_agent(
        cls,
        agent: ModelBasedAgent,
        *,
        num_envs: int,
        rollout_length: int,
        stay_in_range: bool = False,
        seed: int | None = None,
        **options: Unpack[DynamicsOptions],
    ) -> Self:
        """Return environments that move by an agent's model and begin where it has been.

        After the agent has learned on: `refresh()` for its new model, and
        `set_start_obs(agent.buffer.all())` for its new observations.

        Args:
            agent: One that has fitted its model.
            num_envs: N.
            rollout_length: Steps after which an episode is truncated.
            stay_in_range: Truncate by the step that leaves the range of what is recorded, too.
            seed: None: derived from the agent's.
            **options: `uncertainty_penalty`, `uncertainty`, `deterministic`, `precision`
                (`LearnedDynamics`).

        Raises:
            ConfigError: If a setting is impossible.
            MBRLError: If the agent has not fitted its model yet.
        """
        return cls(
            LearnedDynamics.from_agent(agent, **options),
            agent.buffer.all(),
            num_envs=num_envs,
            rollout_length=rollout_length,
            observation_space=agent.env.observation_space,
            action_space=agent.env.action_space,
            stay_in_range=stay_in_range,
            seed=derive_seed(agent.seed, "imagination") if seed is None else seed,
            device=agent.device,
        )

    @property
    def rollout_length(self) -> int:
        """Steps after which episodes are truncated."""
        return self.batch.rollout_length

    @property
    def num_broken(self) -> int:
        """How many steps the dynamics predicted nan or infinity for."""
        return self.batch.num_broken

    def set_rollout_length(self, rollout_length: int) -> None:
        """Truncate episodes after so many steps, those under way included.

        Raises:
            ConfigError: If it is less than 1.
        """
        self.batch.set_rollout_length(rollout_length)

    def set_start_obs(self, start_obs: StartObs) -> None:
        """Begin at other observations `[M, D_obs]` from the next episode on.

        Raises:
            DatasetError: If there are none, or they are of another shape or not finite.
        """
        self.batch.set_start_obs(start_obs)

    def refresh(self) -> None:
        """Move by the model as it is now; to be called after each of its fits."""
        self.batch.dynamics.refresh()

    @abstractmethod
    def _declare(
        self, num_envs: int, observation_space: spaces.Box, action_space: gym.Space[Any]
    ) -> None:
        """Declare the spaces of one environment as the interface asks for it."""

    def _step(self, actions: Any) -> BatchStep:
        """Take the environments' actions `[N, *shape]`, in their own units."""
        return self.batch.step(encode_actions(self.codec, actions, self.batch.num_envs))
