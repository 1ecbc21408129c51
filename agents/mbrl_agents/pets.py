"""PETS: probabilistic ensembles with trajectory sampling (Chua et al. 2018)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_agents.base import ModelBasedAgent
from mbrl_agents.config import PETSConfig
from mbrl_agents.planning import (
    Imagined,
    PlannerState,
    TerminalValue,
    TrajectorySampler,
    make_planner,
)
from mbrl_agents.random_actions import random_features
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.runs import derive_seed

SURPRISE = 5.0
"""Predicted standard deviations: an error beyond is of another kind (a contact, say)."""


class PETS(ModelBasedAgent):
    """Learns an ensemble of dynamics models and plans in it, at every step anew.

    Arguments and errors are those of `ModelBasedAgent`; the settings are the fields of
    `PETSConfig`: `learning_starts`, `planner`, ...
    """

    config_class: ClassVar[type[PETSConfig]] = PETSConfig
    config: PETSConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.planner = make_planner(self.config.planner, self.codec, self.device)
        self.planner_state = self.planner.initial_state(batch_size=1)

    def predict(
        self,
        observation: NDArray[Any],
        state: PlannerState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], PlannerState]:
        """Plan from observations; Stable-Baselines3's `predict`, with the planner as the state.

        Handing the state back in makes the next search start from this one's result, as it does
        in training; without it, every search starts from nothing.

        Args:
            observation: `[D_obs]` or a batch `[B, D_obs]`.
            state: What the last call returned; None at the start.
            episode_start: bool `[B]`: where an episode has just begun and the state is stale.
            deterministic: Plan with the same noise every time: the same observation and state give
                the same action. Otherwise the agent's own generator moves on.

        Returns:
            Actions of the environment, `[*shape]` or `[B, *shape]`, and the new state.
        """
        batch = self._batch(observation)
        fresh = self.planner.initial_state(len(batch))
        if state is None:
            state = fresh
        elif episode_start is not None:
            started = torch.as_tensor(np.atleast_1d(episode_start), device=self.device)
            state = state.restart(started, fresh)
        generator = self.generator
        if deterministic:
            generator = torch.Generator().manual_seed(self.seed + state.step)
        action, new_state = self._plan(batch, state, generator)
        env_action = self.codec.to_env(action)
        return (env_action if np.ndim(observation) == 2 else env_action[0]), new_state

    def _act(self) -> Tensor:
        action, self.planner_state = self._plan(
            self.interaction.obs[None], self.planner_state, self.generator
        )
        return self._explore(action)

    def _begin_episode(self) -> None:
        self.planner_state = self.planner.initial_state(batch_size=1)

    def _after_fit(self) -> dict[str, float]:
        if self.terminal_value is None:
            return {}
        recorded = self.buffer.all()
        surprising = self._surprising(recorded)
        return self.terminal_value.fit(recorded, self._imagine, self.generator, surprising)

    @torch.no_grad()
    def _surprising(self, recorded: Transitions) -> Tensor:
        """Return which transitions ended where the elites do not expect it at all, bool `[N]`."""
        inputs, targets = self.model.tensors(recorded)
        elites = self.model.elite_indices
        means, std = self.model.members(elites).moments(inputs.expand(len(elites), -1, -1))
        variance = std.square().mean(dim=0) + means.var(dim=0, correction=0)
        error = (targets - means.mean(dim=0)).abs()
        # What has never varied is predicted but for rounding.
        known = (error <= SURPRISE * variance.sqrt()) | ~self.model.target_normalizer.varies
        return ~known.all(dim=-1)

    def _own_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"planner_state": vars(self.planner_state)}
        if self.terminal_value is not None:
            state["terminal_value"] = self.terminal_value.training_state()
        return state

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        if self.terminal_value is not None:
            self.terminal_value.load_training_state(state["terminal_value"])
        planner_state = state["planner_state"]
        self.planner_state = PlannerState(
            planner_state["center"].to(self.device),
            planner_state["elites"].to(self.device),
            planner_state["step"],
        )

    def _make_sampler(self) -> TrajectorySampler:
        self.terminal_value = (
            TerminalValue(
                self.model.obs_size,
                self.config.terminal_value,
                torch.Generator().manual_seed(derive_seed(self.seed, "value weights")),
            ).to(self.device)
            if self.config.terminal_value is not None
            else None
        )
        return TrajectorySampler(
            self.model,
            self.reward_fn,
            self.termination_fn,
            self.config.num_particles,
            self.config.propagation,
            self.terminal_value,
            precision=self.config.planner.precision,
        )

    def _plan(
        self, obs: NDArray[Any], state: PlannerState, generator: torch.Generator
    ) -> tuple[Tensor, PlannerState]:
        """Return the first action features `[B, A]` of the best plans, and the next state."""
        start = torch.as_tensor(obs, dtype=torch.float32, device=self.device)
        sampler = self.sampler.held()

        def evaluate(plans: Tensor) -> Tensor:
            return sampler.returns(start, plans, generator)

        plan, next_state = self.planner.plan(evaluate, state, generator)
        return plan[:, 0], next_state

    def _explore(self, action: Tensor) -> Tensor:
        """Return planned action features `[1, A]` with the exploration noise of learning."""
        scale = self.config.exploration_noise
        if scale == 0:
            return action
        if self.codec.is_discrete:
            explores = torch.rand((), generator=self.generator).item() < scale
            return self._random_action() if explores else action
        noise = torch.randn(action.shape, generator=self.generator).to(self.device)
        return (action + scale * noise).clamp(-1.0, 1.0)

    def _imagine(self, obs: Tensor, num_actions: int, generator: torch.Generator) -> Imagined:
        """Return what the models expect of random actions in states `[N, D_obs]`."""
        drawn = random_features(self.codec, num_actions * len(obs), generator)
        actions = drawn.reshape(num_actions, len(obs), self.codec.size)
        return self.sampler.imagine(obs, actions)
