"""Predicted returns of plans, by sampling trajectories through an ensemble."""

from copy import copy
from typing import Literal

import torch
from torch import Tensor

from mbrl_agents.outcomes import Outcomes
from mbrl_agents.planning.scoring import Score
from mbrl_agents.planning.terminal_value import Imagined, TerminalValue
from mbrl_bilevel.config import Precision
from mbrl_bilevel.dynamics import DynamicsModel, MemberModels
from mbrl_bilevel.types import RewardFn, TerminationFn

Propagation = Literal["ts1", "tsinf", "mean"]


class TrajectorySampler:
    """Rolls plans out in a learned model (trajectory sampling, Chua et al. 2018, section 5).

    - `ts1`: the particles change places at each step, and with them the members they move by;
    - `tsinf`: each particle keeps its member for the whole rollout;
    - `mean`: as `tsinf`, but particles move by the members' means, without noise.

    Particles are spread over the elite members as evenly as possible. All plans are rolled out
    with the same members and noise (common random numbers): their returns differ by what the
    plans do, not by luck.

    Args:
        model: The learned dynamics, with what it learns of reward and termination.
        reward_fn: Exact reward; None: the model's.
        termination_fn: Exact termination; None: the model's.
        num_particles: P.
        propagation: See above.
        terminal_value: What the state at the end of a plan is worth; None: nothing. With it, later
            rewards count less, by its discount.
        precision: Of the model's large products on the CPU, when plans are judged; see
            `large_dtype` for `auto`. States, rewards and gradients are float32 in any case.
    """

    def __init__(
        self,
        model: DynamicsModel,
        reward_fn: RewardFn | None,
        termination_fn: TerminationFn | None,
        num_particles: int,
        propagation: Propagation,
        terminal_value: TerminalValue | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.model = model
        self.outcomes = Outcomes(model.codec, reward_fn, termination_fn)
        self.num_particles = num_particles
        self.propagation = propagation
        self.terminal_value = terminal_value
        self.precision = precision
        self._held: MemberModels | None = None

    def held(self) -> "TrajectorySampler":
        """Return the same, that judges plans by the model's parameters as they are now.

        For many calls of `returns` in a row: otherwise each one copies the parameters and, where
        products are large, arranges them anew.
        """
        other = copy(self)
        device = self.model.elite_indices.device
        other._held = self._judges(torch.arange(self.model.network.ensemble_size, device=device))
        return other

    def returns(self, obs: Tensor, plans: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean predicted return of each plan, `[B, C]`.

        Rewards count up to and including the step that terminates; a plan that does not end is
        worth its terminal value on top. Returns can be differentiated by the plans if these
        require a gradient: through states and rewards, not through when a plan ends.

        Args:
            obs: `[B, D_obs]`.
            plans: Action features `[B, C, H, A]`.
            generator: Of members and noise; on the CPU.
        """
        if torch.is_grad_enabled() and plans.requires_grad:
            return self._returns(obs, plans, generator)
        with torch.inference_mode():
            return self._returns(obs, plans, generator)

    def _returns(self, obs: Tensor, plans: Tensor, generator: torch.Generator) -> Tensor:
        batch_size, num_plans, horizon, _ = plans.shape
        start = obs[:, None, :].expand(-1, num_plans, -1).reshape(1, batch_size * num_plans, -1)
        actions = plans.reshape(batch_size * num_plans, horizon, -1)
        current = start.expand(self.num_particles, -1, -1)
        places = self._members(generator)
        moving = self._judges(places) if self._held is None else self._held.choose(places)
        noise = self._noise(horizon, generator)
        discount = 1.0 if self.terminal_value is None else self.terminal_value.discount
        score = Score(self.outcomes, self.model.termination, discount)
        shuffles = self.propagation == "ts1"
        particles = torch.arange(self.num_particles, device=obs.device) if shuffles else None
        for t in range(horizon):
            if particles is not None and t > 0:
                order = self._shuffled(self.num_particles, generator)
                current = current.index_select(0, order)
                particles = particles.index_select(0, order)
            action = actions[:, t].expand(self.num_particles, -1, -1)
            step_noise = None if noise is None else noise[t]
            next_obs, reward = moving.step(current, action, step_noise)
            score.add(current, action, next_obs, reward, particles)
            current = next_obs
        beyond = None if self.terminal_value is None else self.terminal_value(current)
        # A reward function of one's own may return other floats than the model has.
        return score.mean(beyond, particles).float().reshape(batch_size, num_plans)

    @torch.no_grad()
    def imagine(self, obs: Tensor, actions: Tensor) -> Imagined:
        """Return what every elite member expects, by its mean, of actions in states.

        Args:
            obs: `[N, D_obs]`.
            actions: Action features, K in each state, `[K, N, A]`.
        """
        elites = self.model.elite_indices
        num_actions, num_states, _ = actions.shape
        shape = (len(elites), num_actions, num_states)
        start = obs.expand(num_actions, -1, -1).reshape(1, -1, obs.shape[-1])
        start = start.expand(len(elites), -1, -1)
        action = actions.reshape(1, num_actions * num_states, -1).expand(len(elites), -1, -1)
        next_obs, reward = self.model.members(elites).step(start, action, None)
        ended = self.outcomes.terminated(start, action, next_obs, self.model.termination)
        if ended is None:
            ended = torch.zeros(shape, dtype=torch.bool, device=obs.device)
        return Imagined(
            self.outcomes.reward(start, action, next_obs, reward).reshape(shape),
            next_obs.reshape(*shape, -1),
            ended.reshape(shape),
        )

    @torch.inference_mode()
    def trajectories(self, obs: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Return observations `[P, H + 1, D_obs]` sampled along a plan `[H, A]` from `[D_obs]`."""
        moving = self.model.members(self._members(generator))
        noise = self._noise(len(actions), generator)
        current = obs.expand(self.num_particles, 1, -1)
        visited = current
        for t, features in enumerate(actions):
            if self.propagation == "ts1" and t > 0:
                order = self._shuffled(self.num_particles, generator)
                current, visited = current[order], visited[order]
            action = features.expand(self.num_particles, 1, -1)
            current, _ = moving.step(current, action, None if noise is None else noise[t])
            visited = torch.cat([visited, current], dim=1)
        return visited

    def _judges(self, indices: Tensor) -> MemberModels:
        """Return the members at `indices` `[P]`, as plans are judged by them."""
        members = self.model.members(indices)
        return members if self.precision == "float32" else members.with_precision(self.precision)

    def _members(self, generator: torch.Generator) -> Tensor:
        """Return which member is at each particle's place, `[P]`, equal ones side by side."""
        elites = self.model.elite_indices
        order = self._shuffled(len(elites), generator)
        places = torch.arange(self.num_particles, device=elites.device) % len(elites)
        return elites[order[places]].sort().values

    def _shuffled(self, size: int, generator: torch.Generator) -> Tensor:
        return torch.randperm(size, generator=generator).to(self.model.elite_indices.device)

    def _noise(self, horizon: int, generator: torch.Generator) -> Tensor | None:
        if self.propagation == "mean":
            return None
        shape = (horizon, self.num_particles, 1, self.model.obs_size)
        return torch.randn(shape, generator=generator).to(self.model.elite_indices.device)
