"""What model-based agents share: the outer loop, the model, the books, and their storage."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_agents.config import AgentConfig
from mbrl_agents.interaction import Interaction
from mbrl_agents.model_views import ShowsItsModel
from mbrl_agents.planning import TrajectorySampler
from mbrl_agents.random_actions import random_features
from mbrl_agents.saving import SavesItself, load_agent
from mbrl_agents.settings import agent_settings, model_settings, objective_settings
from mbrl_agents.task_functions import check_against_data, exact_functions
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.callbacks import Callback
from mbrl_bilevel.config import ModelConfig, ObjectiveConfig
from mbrl_bilevel.data import ActionCodec, ReplayBuffer, observation_size
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer
from mbrl_bilevel.environments import flatten_observations, make_env
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.runs import (
    derive_seed,
    generator_state,
    resolve_device,
    set_generator_state,
)
from mbrl_bilevel.types import RewardFn, TaskFunctions, TerminationFn


class ModelBasedAgent(SavesItself, ShowsItsModel, ABC):
    """Acts, records, fits a model now and then, and improves with it: the outer loop of them all.

    An agent of its own says how it acts (`_act`, `predict`), what it does with a newly fitted model
    (`_after_fit`) and after each step (`_after_step`), and what else it has to store
    (`_own_state`, `_load_own_state`).

    Args:
        env: An environment, or the id of one. Observations: one-dimensional Box, or Dict and
            Tuple, which are flattened to one vector (as `self.env` gives it). Actions: bounded Box,
            or Discrete.
        objective: What the models are trained by: a name (`"mse"`, `"nll"`, `"beta_nll"`, `"pg"`,
            `"bilevel"`), or a mapping with `name` and settings.
        model: Settings of the ensemble and its training (`ModelConfig`), as a mapping or an object.
        seed: Reproduces everything bit for bit on one machine.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        reward_fn: `(obs, action, next_obs) -> reward`; `"auto"`: the exact one if the task is
            known, else learned; None: learned.
        termination_fn: Likewise, for termination.
        **settings: Fields of the agent's `config_class`.

    Raises:
        ConfigError: If a setting is unknown or impossible, or the environment's id is.
        EnvError: If the environment's spaces are not supported.
    """

    config_class: ClassVar[type[AgentConfig]]
    config: AgentConfig

    def __init__(
        self,
        env: gym.Env[Any, Any] | str,
        *,
        objective: str | Mapping[str, Any] | ObjectiveConfig = "bilevel",
        model: Mapping[str, Any] | ModelConfig | None = None,
        seed: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        reward_fn: RewardFn | Literal["auto"] | None = "auto",
        termination_fn: TerminationFn | Literal["auto"] | None = "auto",
        **settings: Any,
    ) -> None:
        self.config = agent_settings(self.config_class, settings)
        self.model_config = model_settings(model)
        self.objective_config = objective_settings(objective)
        if not 0 <= seed < 2**32:
            raise ConfigError(f"invalid value for 'seed': {seed}; allowed: 0 to 2**32 - 1")
        self.seed = seed
        self.device = resolve_device(device)
        self.env = make_env(env) if isinstance(env, str) else flatten_observations(env)
        self.reward_fn, self.termination_fn = exact_functions(self.env, reward_fn, termination_fn)
        self.num_timesteps = 0
        self.num_fits = 0

        obs_size = observation_size(self.env.observation_space)
        self.codec = ActionCodec(self.env.action_space, self.device)
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "agent"))
        self.interaction = Interaction(self.env, seed)
        self.buffer = ReplayBuffer(
            obs_size,
            self.codec.flat_shape,
            self.model_config.held_out_fraction,
            derive_seed(seed, "held out"),
        )
        target_size = DynamicsModel.target_size(obs_size, self.reward_fn is None)
        self.model = DynamicsModel(
            obs_size,
            self.codec,
            self.model_config,
            make_objective(self.objective_config, self.model_config.ensemble_size, target_size),
            learns_reward=self.reward_fn is None,
            learns_termination=self.termination_fn is None,
            generator=torch.Generator().manual_seed(derive_seed(seed, "weights")),
        ).to(self.device)
        self.sampler = self._make_sampler()
        self.trainer = ModelTrainer(
            self.model,
            self.model_config,
            derive_seed(seed, "bootstrap"),
            TaskFunctions(self.reward_fn, self.termination_fn, self.sampler.terminal_value),
        )

    @abstractmethod
    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Return actions for observations `[D_obs]` or `[B, D_obs]`, and the state to hand back."""

    @abstractmethod
    def _act(self) -> Tensor:
        """Return the action features `[1, A]` for `self.interaction.obs`, while learning."""

    def _begin_episode(self) -> None:
        """Prepare for a new episode."""

    def _after_fit(self) -> dict[str, float]:
        """Use the newly fitted model; return what to log."""
        return {}

    def _after_step(self) -> None:
        """Learn after each environment step, from the first fit on."""

    def _own_state(self) -> dict[str, Any]:
        """Return what `_load_own_state` needs, beside what all agents store."""
        return {}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `_own_state` returned."""

    def _make_sampler(self) -> TrajectorySampler:
        """Return what rolls actions out in the model."""
        return TrajectorySampler(
            self.model, self.reward_fn, self.termination_fn, num_particles=20, propagation="ts1"
        )

    @property
    def learns(self) -> dict[str, bool]:
        """Whether the model learns the `reward` and the `termination`, for want of exact ones."""
        return {"reward": self.reward_fn is None, "termination": self.termination_fn is None}

    def learn(self, total_timesteps: int, callback: Callback | None = None) -> Self:
        """Act in the environment for `total_timesteps` more steps, and learn from them.

        Raises:
            EnvError: If the environment returns nan or infinity.
        """
        callback = callback or Callback()
        last_timestep = self.num_timesteps + total_timesteps
        while self.num_timesteps < last_timestep:
            if self.interaction.is_new_episode:
                self.interaction.begin_if_needed()
                self._begin_episode()
            if self.num_timesteps < self.config.learning_starts:
                action = self._random_action()
            else:
                action = self._act()
            env_action = self.codec.to_env(action)
            step = self.interaction.step(env_action[0])
            self.buffer.add(
                step.obs,
                self.codec.flatten(env_action)[0],
                step.reward,
                step.next_obs,
                step.terminated,
                step.truncated,
            )
            self.num_timesteps += 1
            if step.ends_episode:
                returns, lengths = self.interaction.returns, self.interaction.lengths
                callback.on_episode_end(self, returns[-1], lengths[-1])
            if self._is_fit_due():
                callback.on_fit(self, self.fit_model())
            if self.num_fits:
                self._after_step()
            if not callback.on_step(self):
                break
        return self

    def fit_model(self) -> dict[str, float]:
        """Fit the dynamics model to everything recorded; return what to log."""
        training, held_out = self.buffer.training(), self.buffer.held_out()
        check_against_data(self.env, self.codec, training, self.reward_fn, self.termination_fn)
        metrics = self.trainer.fit(training, held_out, self.generator)
        self.num_fits += 1
        return metrics | self._after_fit()

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: gym.Env[Any, Any] | str | None = None,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        reward_fn: RewardFn | Literal["auto"] | None = "auto",
        termination_fn: TerminationFn | Literal["auto"] | None = "auto",
    ) -> Self:
        """Return the agent that was saved to `path`; it goes on as if it had never stopped.

        Args:
            path: Folder written by `save`.
            env: The environment; None: made anew by the id that the agent was trained on.
            device: Where to put the tensors.
            reward_fn: As for the constructor; functions of your own have to be given again.
            termination_fn: Likewise.

        Raises:
            CheckpointError: If the folder is missing, damaged, or of another environment.
        """
        return load_agent(
            cls, Path(path), env, device=device, reward_fn=reward_fn, termination_fn=termination_fn
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that learning goes on from, as nested plain values and tensors."""
        return {
            "num_timesteps": self.num_timesteps,
            "num_fits": self.num_fits,
            "model": dict(self.model.state_dict()),
            "trainer": self.trainer.state_dict(),
            "buffer": self.buffer.state_dict(),
            "interaction": self.interaction.state_dict(),
            "generator": generator_state(self.generator),
            **self._own_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, resume_episode: bool = True) -> None:
        """Restore what `state_dict` returned; `resume_episode=False` leaves the environment be."""
        self.num_timesteps = state["num_timesteps"]
        self.num_fits = state["num_fits"]
        self.model.load_state_dict(state["model"])
        self.trainer.load_state_dict(state["trainer"])
        self.buffer.load_state_dict(state["buffer"])
        set_generator_state(self.generator, state["generator"])
        self._load_own_state(state)
        if resume_episode:
            self.interaction.load_state_dict(state["interaction"])

    def _random_action(self) -> Tensor:
        return random_features(self.codec, 1, self.generator)

    def _batch(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return observations `[B, D_obs]` of one `[D_obs]` or a batch of them.

        Raises:
            ValueError: If the shape is neither.
        """
        obs = np.asarray(observation)
        batch = obs if obs.ndim == 2 else obs[None]
        if batch.shape[1:] != (self.model.obs_size,):
            raise ValueError(
                f"observation has shape {obs.shape}; expected ({self.model.obs_size},) or "
                f"(B, {self.model.obs_size})"
            )
        return batch

    def _is_fit_due(self) -> bool:
        since_start = self.num_timesteps - self.config.learning_starts
        return since_start >= 0 and since_start % self.config.model_train_freq == 0
