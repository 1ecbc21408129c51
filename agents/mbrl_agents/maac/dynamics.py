"""A learned model as the dynamics of a rollout that gradients flow through."""

import torch
from torch import Tensor

from mbrl_agents.outcomes import Outcomes
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.types import RewardFn, TerminationFn


class DifferentiableModel:
    """The elites of a model as they are now; each trajectory keeps its own elite.

    Rows are dealt out in equal blocks, the first to the first elite and so on: rows in random order
    make the choice of a row's elite random too. Means, standard deviations and rewards are
    differentiable by states and actions, terminations are not.

    Args:
        model: The learned model; its parameters are copied.
        reward_fn: Exact reward; None: the mean of the model's.
        termination_fn: Exact termination; None: the model's, or never if it has learned none.
    """

    def __init__(
        self,
        model: DynamicsModel,
        reward_fn: RewardFn | None,
        termination_fn: TerminationFn | None,
    ) -> None:
        self.model = model
        self.outcomes = Outcomes(model.codec, reward_fn, termination_fn)
        self._num_members = len(model.elite_indices)
        self._members = model.members(model.elite_indices)

    def __call__(self, obs: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return next observations `[N, D_obs]`, rewards and terminations `[N]`; see `Dynamics`."""
        num_rows = len(obs)
        # Blocks are filled up with rows from the start, which predict in vain.
        padding = torch.arange(-num_rows % self._num_members, device=obs.device) % num_rows
        blocks = [
            torch.cat([rows, rows[padding]]).view(self._num_members, -1, rows.shape[-1])
            for rows in (obs, action, noise)
        ]
        next_blocks, learned = self._members.step(*blocks)
        next_obs = next_blocks.flatten(0, 1)[:num_rows]
        learned_reward = None if learned is None else learned.flatten(0, 1)[:num_rows]
        reward = self.outcomes.reward(obs, action, next_obs, learned_reward)
        return next_obs, reward, self._terminated(obs, action, next_obs)

    @torch.no_grad()
    def _terminated(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        ended = self.outcomes.terminated(obs, action, next_obs, self.model.termination)
        if ended is None:
            return torch.zeros(len(obs), dtype=torch.bool, device=obs.device)
        return ended


def check_differentiable(reward_fn: RewardFn, model: DynamicsModel) -> None:
    """Refuse a reward that no gradient flows through: the actor could not learn from it.

    Raises:
        ConfigError: If the reward of states and actions that require a gradient requires none.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(size: int) -> Tensor:
        drawn = torch.rand(4, size, generator=generator).to(model.elite_indices.device)
        return drawn.requires_grad_()

    obs, action, next_obs = draw(model.obs_size), draw(model.codec.size), draw(model.obs_size)
    advice = (
        "MAAC differentiates it; write it with differentiable torch operations, give reward_fn="
        "None to learn the reward, or set horizon=0 to go without"
    )
    try:
        reward = reward_fn(obs, model.codec.decode(action), next_obs)
    except RuntimeError as error:
        raise ConfigError(
            f"reward_fn fails on inputs that require a gradient: {error}; {advice}"
        ) from error
    if not reward.requires_grad:
        raise ConfigError(
            "reward_fn returns a reward without a gradient for states and actions that require "
            f"one; {advice}"
        )
