"""The same planners on the true simulator: the upper limit of planning in a learned model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_agents.config import OracleConfig
from mbrl_agents.interaction import Interaction
from mbrl_agents.last_observation import LastObservation
from mbrl_agents.planning import PlannerState, make_planner
from mbrl_agents.saving import SavesItself, load_agent
from mbrl_agents.settings import agent_settings, model_settings, objective_settings
from mbrl_agents.simulator import Simulator, Snapshot, check_step
from mbrl_bilevel.callbacks import Callback
from mbrl_bilevel.config import ModelConfig, ObjectiveConfig
from mbrl_bilevel.data import ActionCodec, observation_size
from mbrl_bilevel.environments import env_name, make_env
from mbrl_bilevel.errors import ConfigError, EnvError
from mbrl_bilevel.runs import (
    derive_seed,
    generator_state,
    set_generator_state,
)


@dataclass(frozen=True)
class OracleState:
    """What the oracle carries from one step to the next, for a batch of B environments.

    Attributes:
        envs: The environments that it acts in, which it reads the simulator's state from.
        planner: The planner's state, for the same B.
    """

    envs: tuple[gym.Env[Any, Any], ...]
    planner: PlannerState

    def select(self, indices: Tensor) -> "OracleState":
        """Return the state of the environments at `indices` (integers)."""
        envs = tuple(self.envs[index] for index in indices.tolist())
        return OracleState(envs, self.planner.select(indices))


class Oracle(SavesItself):
    """Plans on the true simulator: the upper limit of what planning in a model can reach.

    Nothing is learned, and nothing predicted: each plan is tried out in a copy of the environment,
    put into the present state. It knows what is hidden from an agent, also the noise to come
    where an environment draws some. Every step is as costly as the plans' steps in the
    environment.

    Args:
        env: An environment, or the id of one. Observations: one-dimensional Box. Actions: bounded
            Box, or Discrete.
        objective: Not used, as there is no model; checked and kept.
        model: Not used, likewise.
        seed: Reproduces everything bit for bit on one machine.
        device: Not used: simulators run on the processor.
        **settings: Fields of `OracleConfig`.

    Raises:
        ConfigError: If a setting is unknown or impossible, or the environment's id is.
        EnvError: If the environment's spaces are not supported, or it cannot be simulated.
    """

    config_class: ClassVar[type[OracleConfig]] = OracleConfig
    learns: ClassVar[Mapping[str, bool]] = {"reward": False, "termination": False}

    def __init__(
        self,
        env: gym.Env[Any, Any] | str,
        *,
        objective: str | Mapping[str, Any] | ObjectiveConfig = "bilevel",
        model: Mapping[str, Any] | ModelConfig | None = None,
        seed: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        **settings: Any,
    ) -> None:
        del device
        self.config = agent_settings(self.config_class, settings)
        self.model_config = model_settings(model)
        self.objective_config = objective_settings(objective)
        if not 0 <= seed < 2**32:
            raise ConfigError(f"invalid value for 'seed': {seed}; allowed: 0 to 2**32 - 1")
        self.seed = seed
        self.env = LastObservation(make_env(env) if isinstance(env, str) else env)
        self.obs_size = observation_size(self.env.observation_space)
        self.codec = ActionCodec(self.env.action_space)
        self.simulator = Simulator(self.env)
        self.planner = make_planner(self.config.planner, self.codec, torch.device("cpu"))
        self.planner_state = self.planner.initial_state(batch_size=1)
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "agent"))
        self.interaction = Interaction(self.env, seed)
        self.num_timesteps = 0

    def initial_state(self, envs: Sequence[gym.Env[Any, Any]]) -> OracleState:
        """Return the state to `predict` with at the start of an episode in each environment."""
        return OracleState(tuple(envs), self.planner.initial_state(len(envs)))

    def predict(
        self,
        observation: NDArray[Any],
        state: OracleState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], OracleState]:
        """Plan from where the state's environments are now.

        Args:
            observation: What they returned last, `[D_obs]` or `[B, D_obs]`.
            state: Of `initial_state(envs)`, or what the last call returned; None: of `self.env`.
            episode_start: bool `[B]`: where an episode has just begun.
            deterministic: Plan with the same noise every time; see `PETS.predict`.

        Returns:
            Actions of the environment, `[*shape]` or `[B, *shape]`, and the new state.

        Raises:
            EnvError: If there is no state, and `self.env` is not where the observation is from.
            ValueError: If there are not as many observations as environments.
        """
        batch = np.atleast_2d(observation)
        if state is None:
            self._check_own(batch)
            state = self.initial_state([self.env])
        if len(batch) != len(state.envs):
            raise ValueError(f"{len(batch)} observations of {len(state.envs)} environments")
        planner_state = state.planner
        if episode_start is not None:
            started = torch.as_tensor(np.atleast_1d(episode_start))
            planner_state = planner_state.restart(started, self.planner.initial_state(len(batch)))
        generator = self.generator
        if deterministic:
            generator = torch.Generator().manual_seed(self.seed + planner_state.step)
        moments = [self.simulator.capture(env) for env in state.envs]
        action, planner_state = self._plan(moments, planner_state, generator)
        env_action = self.codec.to_env(action)
        new_state = OracleState(state.envs, planner_state)
        return (env_action if np.ndim(observation) == 2 else env_action[0]), new_state

    def learn(self, total_timesteps: int, callback: Callback | None = None) -> Self:
        """Act for so many more steps; there is nothing to learn.

        Raises:
            EnvError: If a step is not what the simulation of it was, or nan or infinity.
        """
        callback = callback or Callback()
        last_timestep = self.num_timesteps + total_timesteps
        while self.num_timesteps < last_timestep:
            if self.interaction.is_new_episode:
                self.interaction.begin_if_needed()
                self.planner_state = self.planner.initial_state(batch_size=1)
            moment = self.simulator.capture(self.env)
            features, self.planner_state = self._plan([moment], self.planner_state, self.generator)
            action = self.codec.to_env(features)
            simulated = self.simulator.simulate(moment, action)
            step = self.interaction.step(action[0])
            check_step(
                env_name(self.env),
                simulated.obs[0],
                simulated.rewards[0],
                step.next_obs,
                step.reward,
            )
            self.num_timesteps += 1
            if step.ends_episode:
                returns, lengths = self.interaction.returns, self.interaction.lengths
                callback.on_episode_end(self, returns[-1], lengths[-1])
            if not callback.on_step(self):
                break
        return self

    @classmethod
    def load(cls, path: str | Path, env: gym.Env[Any, Any] | str | None = None) -> Self:
        """Return the agent that was saved to `path`; it goes on as if it had never stopped.

        Args:
            path: Folder written by `save`.
            env: The environment; None: made anew by the id that the agent was made with.

        Raises:
            CheckpointError: If the folder is missing, damaged, or of another environment.
        """
        return load_agent(cls, Path(path), env)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that acting goes on from, as nested plain values and tensors."""
        return {
            "num_timesteps": self.num_timesteps,
            "interaction": self.interaction.state_dict(),
            "generator": generator_state(self.generator),
            "planner_state": vars(self.planner_state),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the episode under way is replayed."""
        self.num_timesteps = state["num_timesteps"]
        set_generator_state(self.generator, state["generator"])
        self.planner_state = PlannerState(**state["planner_state"])
        self.interaction.load_state_dict(state["interaction"])

    def _plan(
        self, moments: Sequence[Snapshot], state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        """Return the first action features `[B, A]` of the best plans, and the next state."""

        def evaluate(plans: Tensor) -> Tensor:
            num_plans, horizon = plans.shape[1:3]
            flat = self.codec.to_env(plans.reshape(-1, self.codec.size))
            actions = flat.reshape(len(moments), num_plans, horizon, *flat.shape[1:])
            returns = [
                [self.simulator.total_reward(moment, sequence) for sequence in sequences]
                for moment, sequences in zip(moments, actions, strict=True)
            ]
            return torch.tensor(returns)

        plan, next_state = self.planner.plan(evaluate, state, generator)
        return plan[:, 0], next_state

    def _check_own(self, batch: NDArray[Any]) -> None:
        """Raise unless the one observation `[1, D_obs]` is what `self.env` returned last."""
        last = self.env.last_obs
        if last is None or len(batch) != 1 or not np.array_equal(batch[0], last):
            raise EnvError(
                f"the oracle has to know the environment itself, and {env_name(self.env)} in "
                "agent.env did not return this observation last; step agent.env, or hand in "
                "state=agent.initial_state(envs)"
            )
