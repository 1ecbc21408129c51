"""What a state is worth at the end of a plan: rewards beyond the horizon."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mbrl_agents.planning.config import TerminalValueConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.dynamics import Normalizer
from mbrl_bilevel.dynamics.ensemble import Layers, multi_layer

NUM_MEMBERS = 5
HIDDEN_SIZE = 64
RESTARTS = 0.02
"""Share of the walkers that begin anew in a round, besides those whose episode ends."""


@dataclass(frozen=True)
class Imagined:
    """What E models expect of K other actions in each of N states.

    Attributes:
        rewards: `[E, K, N]`.
        next_obs: `[E, K, N, D_obs]`.
        terminated: bool `[E, K, N]`.
    """

    rewards: Tensor
    next_obs: Tensor
    terminated: Tensor


ImagineFn = Callable[[Tensor, int, torch.Generator], Imagined]
"""`(obs [N, D_obs], K, generator)` -> what happens after K random actions in each state."""


class TerminalValue(nn.Module):
    """The discounted return from a state on, learned from recorded states and in the model.

    Fitted value iteration: round by round an ensemble regresses on one-step targets, V being the
    last round's mean of members and `q = reward + discount * (1 - terminated) * V(next_obs)`:

        target = (1 - improvement) * q_base + improvement * max(q_base, max_a q_model(a))

    with a of K random actions. In recorded states `q_base` is that of the recorded action. Recorded
    actions alone would hold the failures of early episodes against the states that they began in;
    the model's best actions alone would trust it where it is wrong. Where it is known to be wrong,
    as what was recorded there surprised it, the target is `q_base`. A truncated episode goes on in
    the targets, a terminated one is worth nothing more.

    Walkers, if there are any, begin in recorded states and take a step of the model in each round:
    with probability `improvement` the best of the K actions, else any, whose mean is their
    `q_base`. They meet the falls and the recoveries that no recorded episode has met.

    Added at the end of a plan it makes a finite horizon look further (Lowrey et al., "Plan Online,
    Learn Offline", 2019): without it, whatever pays the same within the horizon is all one to a
    planner.

    Members differ in their initial weights; the lowest of them is what a state is worth to the
    planner, so that states far from all data do not look good by accident.

    Args:
        obs_size: D_obs.
        config: Discount and updates.
        generator: Draws the initial weights (on the CPU).
    """

    mean: Tensor
    std: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(
        self, obs_size: int, config: TerminalValueConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.normalizer = Normalizer(obs_size)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise([obs_size, HIDDEN_SIZE, HIDDEN_SIZE, 1]):
            weight = torch.randn(NUM_MEMBERS, fan_in, fan_out, generator=generator)
            self.weights.append(nn.Parameter(weight / fan_in**0.5))
            self.biases.append(nn.Parameter(torch.zeros(NUM_MEMBERS, 1, fan_out)))
        # Before the first fit every state is worth nothing.
        for name in ("mean", "std", "lowest", "highest"):
            self.register_buffer(name, torch.zeros(()))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=config.lr, fused=True)

    @property
    def discount(self) -> float:
        """Weight of a reward one step later."""
        return self.config.discount

    def forward(self, obs: Tensor) -> Tensor:
        """Return the value `[...]` of observations `[..., D_obs]`: the lowest of the members'."""
        return self._bounded(self._members(obs.reshape(-1, obs.shape[-1])).amin(dim=0)).reshape(
            obs.shape[:-1]
        )

    def fit(
        self,
        transitions: Transitions,
        imagine: ImagineFn,
        generator: torch.Generator,
        surprising: Tensor | None = None,
    ) -> dict[str, float]:
        """Fit to transitions `[N, ...]`, going on from the last fit; return what to log.

        Args:
            transitions: All that is recorded.
            imagine: The model.
            generator: Of states, actions and batches; on the CPU.
            surprising: Which of them the model did not expect, bool `[N]`; None: none.
        """
        if surprising is None:
            surprising = torch.zeros(len(transitions), dtype=torch.bool)
        recorded = _Recorded.of(transitions, surprising.to(self.mean.device))
        self.normalizer.fit(recorded.obs)
        self._set_bounds(recorded.rewards)
        walkers = recorded.sample(self.config.num_walkers, generator).obs
        loss = self.mean
        for _ in range(self.config.num_rounds):
            states = recorded.sample(self.config.num_states, generator)
            obs, targets = torch.cat([states.obs, walkers]), self._recorded_worth(states)
            if self.config.improvement > 0 or len(walkers):
                imagined = imagine(obs, self.config.num_actions, generator)
                worth = self._worth(imagined)
                targets = self._improved(targets, states.surprising, worth)
                walkers = self._walk(imagined, worth, walkers, recorded, generator)
            self._rescale(targets)
            for _ in range(self.config.num_updates):
                batch = torch.randint(len(targets), (self.config.batch_size,), generator=generator)
                rows = batch.to(targets.device)
                errors = (self._members(obs[rows]) - targets[rows]) / self.std
                loss = errors.square().mean()
                self.optimizer.zero_grad(set_to_none=True)
                (NUM_MEMBERS * loss).backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
        return {"value/mean": self.mean.item(), "value/loss": loss.item()}

    def training_state(self) -> dict[str, Any]:
        """Return everything that learning goes on from."""
        return {"network": dict(self.state_dict()), "optimizer": self.optimizer.state_dict()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what `training_state` returned."""
        self.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def _recorded_worth(self, states: "_Recorded") -> Tensor:
        """Return what recorded actions were worth, `[N]`."""
        following = self._mean_value(states.next_obs).where(states.goes_on, 0.0)
        return states.rewards + self.discount * following

    @torch.no_grad()
    def _worth(self, imagined: Imagined) -> Tensor:
        """Return what actions are worth in the mean of the models, `[K, N]`."""
        following = self._mean_value(imagined.next_obs).where(~imagined.terminated, 0.0)
        return (imagined.rewards + self.discount * following).mean(dim=0)

    def _improved(self, as_recorded: Tensor, surprising: Tensor, worth: Tensor) -> Tensor:
        """Return targets of recorded states, then walkers, `[N + W]`, by worths `[K, N + W]`."""
        base = torch.cat([as_recorded, worth[:, len(as_recorded) :].mean(dim=0)])
        improved = base.lerp(base.maximum(worth.amax(dim=0)), self.config.improvement)
        improved[: len(as_recorded)] = as_recorded.where(surprising, improved[: len(as_recorded)])
        return improved

    def _walk(
        self,
        imagined: Imagined,
        worth: Tensor,
        walkers: Tensor,
        recorded: "_Recorded",
        generator: torch.Generator,
    ) -> Tensor:
        """Return where the walkers are next, `[W, D_obs]`: by one model each, or at a new start."""
        num_models, num_actions, num_states = imagined.rewards.shape
        size, device = len(walkers), worth.device
        if size == 0:
            return walkers
        columns = torch.arange(num_states - size, num_states, device=device)  # they come last
        improves = torch.rand(size, generator=generator).to(device) < self.config.improvement
        any_action = torch.randint(num_actions, (size,), generator=generator).to(device)
        action = torch.where(improves, worth[:, columns].argmax(dim=0), any_action)
        model = torch.randint(num_models, (size,), generator=generator).to(device)
        restarts = torch.rand(size, generator=generator).to(device) < RESTARTS
        moved = imagined.next_obs[model, action, columns]
        restarts |= imagined.terminated[model, action, columns] | ~moved.isfinite().all(dim=-1)
        starts = torch.randint(len(recorded.obs), (size,), generator=generator).to(device)
        return torch.where(restarts[:, None], recorded.obs[starts], moved)

    def _mean_value(self, obs: Tensor) -> Tensor:
        """Return the bounded mean of the members' values, `[...]`, of `[..., D_obs]`."""
        flat = self._members(obs.reshape(-1, obs.shape[-1])).mean(dim=0)
        return self._bounded(flat).reshape(obs.shape[:-1])

    def _members(self, obs: Tensor) -> Tensor:
        """Return every member's value `[E, N]` of observations `[N, D_obs]`."""
        layers: Layers = list(zip(self.weights, self.biases, strict=True))
        inputs = self.normalizer.normalize(obs).expand(NUM_MEMBERS, -1, -1)
        return self.mean + self.std * multi_layer(inputs, layers)[..., 0]

    def _bounded(self, value: Tensor) -> Tensor:
        """Return values that rewards can add up to: extrapolation must not feed on itself."""
        return value.clamp(self.lowest, self.highest)

    def _set_bounds(self, rewards: Tensor) -> None:
        """The least and the most that rewards like the recorded ones can add up to."""
        total = rewards / (1 - self.discount)
        self.lowest.copy_(total.min().clamp_max(0.0))
        self.highest.copy_(total.max().clamp_min(0.0))

    def _rescale(self, targets: Tensor) -> None:
        self.mean.copy_(targets.mean())
        self.std.copy_(targets.std(correction=0).clamp_min(1e-6))


@dataclass(frozen=True)
class _Recorded:
    """Transitions as tensors: obs and next_obs `[N, D_obs]`, the others `[N]`."""

    obs: Tensor
    rewards: Tensor
    next_obs: Tensor
    goes_on: Tensor
    surprising: Tensor

    @classmethod
    def of(cls, transitions: Transitions, surprising: Tensor) -> "_Recorded":
        device = surprising.device
        return cls(
            torch.as_tensor(transitions.obs, device=device),
            torch.as_tensor(transitions.rewards, device=device),
            torch.as_tensor(transitions.next_obs, device=device),
            ~torch.as_tensor(transitions.terminated, device=device),
            surprising,
        )

    def sample(self, size: int, generator: torch.Generator) -> "_Recorded":
        """Return `size` of them without repetition, or all."""
        rows = torch.randperm(len(self.obs), generator=generator)[:size].to(self.obs.device)
        columns = (self.obs, self.rewards, self.next_obs, self.goes_on, self.surprising)
        return _Recorded(*(column[rows] for column in columns))
