"""What a state is worth at the end of a plan: rewards beyond the horizon."""

import itertools
from collections import deque
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
ROUNDS_KEPT = 4
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
    """The discounted return from a state on, learned by walking in the model.

    Fitted value iteration along the way. Walkers begin in recorded states. In each round K random
    actions are imagined in the walkers' states, an ensemble of networks regresses on what these are
    worth, V being the last round's mean of members and
    `q(a) = mean of models (reward + discount * (1 - terminated) * V(next_obs))`:

        target = improvement * max_a q(a) + (1 - improvement) * mean_a q(a)

    and then each walker takes the best action with probability `improvement`, else any. So V is the
    return of a policy that is right now and then only. A perfect one is worth the same wherever it
    can still be saved, and would tell plans apart at that edge alone; of this one, more is left the
    further away the edge is. Walking leads to states, of falls and of recoveries, that no recorded
    episode has met.

    Added at the end of a plan it makes a finite horizon look further (Lowrey et al., "Plan Online,
    Learn Offline", 2019): without it, whatever pays the same within the horizon is all one to a
    planner. Members differ in their initial weights; the lowest of them is what a state is worth to
    the planner, so that states far from all that was met do not look good by accident.

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
        self, transitions: Transitions, imagine: ImagineFn, generator: torch.Generator
    ) -> dict[str, float]:
        """Fit to the model, going on from the last fit; return what to log.

        Args:
            transitions: All that is recorded, `[N, ...]`: where walkers begin, and how large
                rewards are.
            imagine: The model.
            generator: Of states, actions and batches; on the CPU.
        """
        recorded = torch.as_tensor(transitions.obs, device=self.mean.device)
        self.normalizer.fit(recorded)
        self._set_bounds(torch.as_tensor(transitions.rewards, device=self.mean.device))
        walkers = _drawn(recorded, self.config.num_states, generator)
        # The last rounds' states are learned on too: one round's are few.
        met: deque[tuple[Tensor, Tensor]] = deque(maxlen=ROUNDS_KEPT)
        loss = self.mean
        for _ in range(self.config.num_rounds):
            imagined = imagine(walkers, self.config.num_actions, generator)
            worth = self._worth(imagined)
            met.append((walkers, self._targets(worth)))
            states, targets = map(torch.cat, zip(*met, strict=True))
            loss = self._regress(states, targets, generator)
            walkers = self._walk(imagined, worth, recorded, generator)
        return {"value/mean": self.mean.item(), "value/loss": loss.item()}

    def training_state(self) -> dict[str, Any]:
        """Return everything that learning goes on from."""
        return {"network": dict(self.state_dict()), "optimizer": self.optimizer.state_dict()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what `training_state` returned."""
        self.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def _worth(self, imagined: Imagined) -> Tensor:
        """Return what actions are worth in the mean of the models, `[K, N]`."""
        following = self._mean_value(imagined.next_obs).where(~imagined.terminated, 0.0)
        return (imagined.rewards + self.discount * following).mean(dim=0)

    def _targets(self, worth: Tensor) -> Tensor:
        """Return what states are worth, `[N]`, from actions' `[K, N]`."""
        return worth.mean(dim=0).lerp(worth.amax(dim=0), self.config.improvement)

    def _regress(self, obs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Update the members towards targets `[N]` of states `[N, D_obs]`; return the last loss."""
        self._rescale(targets)
        loss = self.mean
        for _ in range(self.config.num_updates):
            drawn = torch.randint(len(targets), (self.config.batch_size,), generator=generator)
            rows = drawn.to(targets.device)
            errors = (self._members(obs[rows]) - targets[rows]) / self.std
            loss = errors.square().mean()
            self.optimizer.zero_grad(set_to_none=True)
            (NUM_MEMBERS * loss).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return loss

    def _walk(
        self, imagined: Imagined, worth: Tensor, recorded: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return where the walkers are next, `[N, D_obs]`: by one model each, or at a new start."""
        num_models, num_actions, num_walkers = imagined.rewards.shape
        device = worth.device
        lucky = torch.rand(num_walkers, generator=generator).to(device) < self.config.improvement
        any_action = torch.randint(num_actions, (num_walkers,), generator=generator).to(device)
        action = torch.where(lucky, worth.argmax(dim=0), any_action)
        model = torch.randint(num_models, (num_walkers,), generator=generator).to(device)
        taken = model, action, torch.arange(num_walkers, device=device)
        restarts = torch.rand(num_walkers, generator=generator).to(device) < RESTARTS
        restarts |= imagined.terminated[taken]
        rows = torch.randint(len(recorded), (num_walkers,), generator=generator).to(device)
        return torch.where(restarts[:, None], recorded[rows], imagined.next_obs[taken])

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


def _drawn(obs: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return `size` of the states `[N, D_obs]` without repetition, or all."""
    return obs[torch.randperm(len(obs), generator=generator)[:size].to(obs.device)]
