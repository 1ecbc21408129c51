"""What tabular agents share: the loop, greedy actions, reports, and their storage."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_agents.interaction import Interaction
from mbrl_agents.saving import SavesItself, load_agent
from mbrl_agents.settings import agent_settings, section_settings
from mbrl_agents.tabular.config import TabularAgentConfig
from mbrl_agents.tabular.exploration import best_action
from mbrl_agents.tabular.figures import value_figure
from mbrl_agents.tabular.report import ExactReport, exact_mdp
from mbrl_agents.tabular.spaces import discrete_spaces
from mbrl_bilevel.callbacks import Callback
from mbrl_bilevel.config import StrictConfig
from mbrl_bilevel.environments import make_env
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.runs import (
    derive_seed,
    generator_state,
    resolve_device,
    set_generator_state,
)
from mbrl_envs.tabular.boards import board_of

FloatArray = NDArray[np.float64]


class TabularAgent(SavesItself, ABC):
    """Acts in a finite environment and learns a table of action values: the loop of them all.

    States and actions are counted from zero, whatever the spaces start at. An agent of its own says
    how it acts (`_act`), what it learns from a transition (`_learn_from`), what its action values
    are (`q_values`), and what it has to store (`_own_state`, `_load_own_state`).

    Args:
        env: An environment with Discrete observations and actions, or the id of one.
        objective: What the model is learned by: a name or a mapping with `name` and settings, of
            those in the agent's `sections_class`; None: its default.
        model: Settings of the model, likewise.
        seed: Reproduces everything bit for bit on one machine.
        device: Taken for the sake of other agents' arguments: tables live in NumPy.
        **settings: Fields of the agent's `config_class`.

    Raises:
        ConfigError: If a setting is unknown or impossible, or the environment's id is.
        EnvError: If a space is not Discrete.
    """

    config_class: ClassVar[type[TabularAgentConfig]]
    sections_class: ClassVar[type[StrictConfig]]
    learns: ClassVar[Mapping[str, bool]] = {"reward": True, "termination": True}

    def __init__(
        self,
        env: gym.Env[Any, Any] | str,
        *,
        objective: str | Mapping[str, Any] | StrictConfig | None = None,
        model: Mapping[str, Any] | StrictConfig | None = None,
        seed: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        **settings: Any,
    ) -> None:
        self.config: Any = agent_settings(self.config_class, settings)
        self.sections: Any = section_settings(self.sections_class, objective, model)
        if not 0 <= seed < 2**32:
            raise ConfigError(f"invalid value for 'seed': {seed}; allowed: 0 to 2**32 - 1")
        resolve_device(device)
        self.seed = seed
        self.env = make_env(env) if isinstance(env, str) else env
        self.observations, self.actions = discrete_spaces(self.env)
        self.num_states, self.num_actions = int(self.observations.n), int(self.actions.n)
        self.num_timesteps = 0
        self.rng = np.random.default_rng(derive_seed(seed, "agent"))
        self.interaction = Interaction(self.env, seed)
        self._report: ExactReport | None = None

    @property
    def objective_config(self) -> StrictConfig:
        """What the model is learned by."""
        config: StrictConfig = self.sections.objective
        return config

    @property
    def model_config(self) -> StrictConfig:
        """The settings of the model."""
        config: StrictConfig = self.sections.model
        return config

    @abstractmethod
    def q_values(self) -> FloatArray:
        """Return the action values as far as they are known, `[S, A]`."""

    @abstractmethod
    def _act(self, state: int) -> int:
        """Return an action, while learning."""

    @abstractmethod
    def _learn_from(
        self, state: int, action: int, reward: float, next_state: int, terminated: bool
    ) -> dict[str, float]:
        """Learn from a transition; return what to log of a fit, if there was one."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return what `_load_own_state` needs, beside what all agents store."""

    @abstractmethod
    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `_own_state` returned."""

    def _begin_episode(self, state: int) -> None:
        """Prepare for a new episode."""

    def learn(self, total_timesteps: int, callback: Callback | None = None) -> Self:
        """Act in the environment for `total_timesteps` more steps, and learn from them."""
        callback = callback or Callback()
        last_timestep = self.num_timesteps + total_timesteps
        while self.num_timesteps < last_timestep:
            if self.interaction.is_new_episode:
                self.interaction.begin_if_needed()
                self._begin_episode(self._state(self.interaction.obs))
            state = self._state(self.interaction.obs)
            action = self._act(state)
            step = self.interaction.step(action + int(self.actions.start))
            metrics = self._learn_from(
                state, action, step.reward, self._state(step.next_obs), step.terminated
            )
            self.num_timesteps += 1
            if step.ends_episode:
                returns, lengths = self.interaction.returns, self.interaction.lengths
                callback.on_episode_end(self, returns[-1], lengths[-1])
            if metrics:
                callback.on_fit(self, metrics)
            if not callback.on_step(self):
                break
        return self

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], None]:
        """Return greedy actions; Stable-Baselines3's `predict`.

        Args:
            observation: A number, or a batch `[B]`.
            state: Ignored; there is none.
            episode_start: Ignored.
            deterministic: The first of the best actions; else one of them at random, by the agent's
                generator.

        Returns:
            Actions of the environment, `[]` or `[B]`, and None.

        Raises:
            ValueError: An observation is not in the space.
        """
        del state, episode_start
        obs = np.asarray(observation)
        states = obs.reshape(-1).astype(np.int64) - int(self.observations.start)
        if obs.ndim > 1 or not ((states >= 0) & (states < self.num_states)).all():
            raise ValueError(f"observation {observation!r} is not (a batch) of {self.observations}")
        q_values = self.q_values()[states]
        if deterministic:
            chosen = q_values.argmax(axis=1)
        else:
            chosen = np.array([best_action(row, self.rng) for row in q_values], np.int64)
        return (chosen + int(self.actions.start)).reshape(obs.shape), None

    def evaluation_metrics(self) -> dict[str, float]:
        """Return what the greedy policy is worth exactly, if the environment has known tables."""
        report = self._exact_report()
        return {} if report is None else report.metrics(self.q_values().argmax(axis=1))

    def figures(self) -> dict[str, Figure]:
        """Return a picture of values and policy, beside the optimal ones where they are known."""
        tables, ends = {"learned": self.q_values()}, np.zeros(self.num_states, np.bool_)
        report = self._exact_report()
        if report is not None:
            tables["optimal"] = report.solution.q_values
            arrivals = report.mdp.transition_table > 0
            ended = (report.mdp.termination_table == 1) | ~arrivals
            ends = ended.all(axis=(0, 1)) & arrivals.any(axis=(0, 1))
        return {"values": value_figure(tables, board_of(self.env), ends)}

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: gym.Env[Any, Any] | str | None = None,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> Self:
        """Return the agent that was saved to `path`; it goes on as if it had never stopped.

        Args:
            path: Folder written by `save`.
            env: The environment; None: made anew by the id that the agent was trained on.
            device: See the class.

        Raises:
            CheckpointError: If the folder is missing, damaged, or of another environment.
        """
        return load_agent(cls, Path(path), env, device=device)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that learning goes on from, as nested plain values and arrays."""
        return {
            "num_timesteps": self.num_timesteps,
            "sizes": [self.num_states, self.num_actions],
            "interaction": self.interaction.state_dict(),
            "rng": generator_state(self.rng),
            **self._own_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: It is of another number of states or actions.
        """
        if list(state["sizes"]) != [self.num_states, self.num_actions]:
            raise ValueError(
                f"it has {state['sizes'][0]} states and {state['sizes'][1]} actions, the "
                f"environment {self.num_states} and {self.num_actions}"
            )
        self.num_timesteps = state["num_timesteps"]
        set_generator_state(self.rng, state["rng"])
        self._load_own_state(state)
        self.interaction.load_state_dict(state["interaction"])

    def _state(self, obs: Any) -> int:
        return int(obs) - int(self.observations.start)

    def _exact_report(self) -> ExactReport | None:
        if self._report is None:
            mdp = exact_mdp(self.env)
            if mdp is None:
                return None
            limit = self.env.spec.max_episode_steps if self.env.spec is not None else None
            self._report = ExactReport(mdp, self.config.discount, limit)
        return self._report
