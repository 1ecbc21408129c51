"""What a state is worth at the end of a plan: rewards beyond the horizon."""

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from mbrl_agents.planning.config import TerminalValueConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.dynamics import Normalizer
from mbrl_bilevel.dynamics.ensemble import Layers, multi_layer

NUM_MEMBERS = 5
HIDDEN_SIZE = 64


class TerminalValue(nn.Module):
    """The discounted return from a state on, learned from the transitions of the replay buffer.

    Fitted value iteration on the data's own actions: round by round an ensemble regresses on
    `reward + discount * (1 - terminated) * V(next_obs)`, V being the last round's mean of members.
    A truncated episode goes on in the targets, a terminated one is worth nothing more. Added at the
    end of a plan it makes a finite horizon look further (Lowrey et al., "Plan Online, Learn
    Offline", 2019): without it, whatever pays the same within the horizon is all one to a planner.

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

    def fit(self, transitions: Transitions, generator: torch.Generator) -> dict[str, float]:
        """Fit to all transitions `[N, ...]`, going on from the last fit; return what to log."""
        device = self.mean.device
        obs = torch.as_tensor(transitions.obs, device=device)
        next_obs = torch.as_tensor(transitions.next_obs, device=device)
        rewards = torch.as_tensor(transitions.rewards, device=device)
        goes_on = ~torch.as_tensor(transitions.terminated, device=device)
        self.normalizer.fit(obs)
        targets, loss = rewards, rewards.new_zeros(())
        for _ in range(self.config.num_rounds):
            with torch.no_grad():
                next_value = self._bounded(self._members(next_obs).mean(dim=0))
                targets = rewards + self.discount * next_value.where(goes_on, 0.0)
                self._rescale(targets)
            for _ in range(self.config.num_updates):
                batch = torch.randint(len(obs), (self.config.batch_size,), generator=generator)
                rows = batch.to(device)
                errors = (self._members(obs[rows]) - targets[rows]) / self.std
                loss = errors.square().mean()
                self.optimizer.zero_grad(set_to_none=True)
                (NUM_MEMBERS * loss).backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
        return {
            "value/mean": targets.mean().item(),
            "value/loss": loss.item(),
        }

    def training_state(self) -> dict[str, Any]:
        """Return everything that learning goes on from."""
        return {"network": dict(self.state_dict()), "optimizer": self.optimizer.state_dict()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what `training_state` returned."""
        self.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _members(self, obs: Tensor) -> Tensor:
        """Return every member's value `[E, N]` of observations `[N, D_obs]`."""
        layers: Layers = list(zip(self.weights, self.biases, strict=True))
        inputs = self.normalizer.normalize(obs).expand(NUM_MEMBERS, -1, -1)
        return self.mean + self.std * multi_layer(inputs, layers)[..., 0]

    def _bounded(self, value: Tensor) -> Tensor:
        """Return values held within the targets seen: extrapolation must not feed on itself."""
        return value.clamp(self.lowest, self.highest)

    def _rescale(self, targets: Tensor) -> None:
        self.lowest.copy_(targets.min())
        self.highest.copy_(targets.max())
        self.mean.copy_(targets.mean())
        self.std.copy_(targets.std(correction=0).clamp_min(1e-6))
