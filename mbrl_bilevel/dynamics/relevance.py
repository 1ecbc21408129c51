"""Which predicted dimensions matter for the return, as the model itself has it."""

import torch
from torch import Tensor

from mbrl_bilevel.dynamics.model import DynamicsModel
from mbrl_bilevel.types import RewardFn

ROWS = 64
"""Steps that the return is differentiated at, in one look."""
MEMORY = 0.8
"""How much of the last look is kept: one sees few steps."""


class Relevance:
    """Share of each predicted dimension in the error of the return.

    With the return R of the steps after a prediction, and its gradient `g = dR / dy_hat` in the
    normalised prediction, an error e changes the return by `g^T e` to first order, and its square
    is `e^T g g^T e`: the reward that the task itself asks for is the Mahalanobis reward with
    `U = E[g g^T]`. Its diagonal is what is measured here, in shares that add up to one.

    R is rolled out in the model: the step predicted, and `horizon` more under recorded actions, by
    the members' means. Dimensions matter that are paid for, and those that these depend on.

    Args:
        model: Its normalisers are fitted before `look`.
        reward_fn: Exact reward; None: the model's own, if it learns one.
        horizon: Steps after the one predicted.
    """

    def __init__(self, model: DynamicsModel, reward_fn: RewardFn | None, horizon: int) -> None:
        self._model = model
        self._reward_fn = reward_fn
        self._horizon = horizon

    def look(self, inputs: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return the shares `[D]` as one look has them; None: nothing changes the return.

        Args:
            inputs: The model's raw inputs of recorded steps, in their order, `[N, D_x]`.
            generator: Chooses the steps.
        """
        model, size = self._model, self._model.obs_size
        horizon = min(self._horizon, len(inputs) - 1)
        if horizon < 1 or (self._reward_fn is None and not model.learns_reward):
            return None
        rows = torch.randint(len(inputs) - horizon, (ROWS,), generator=generator).to(inputs.device)
        num_members = model.network.ensemble_size
        members = model.members(torch.arange(num_members, device=inputs.device))
        first = inputs[rows].expand(num_members, -1, -1)
        obs, action = first[..., :size], first[..., size:]
        with torch.no_grad():
            predicted, _ = members.step(obs, action, None)
        with torch.enable_grad():
            predicted.requires_grad_()
            total = self._exact_reward(obs, action, predicted)
            current = predicted
            for t in range(1, horizon + 1):
                action = inputs[rows + t][:, size:].expand(num_members, -1, -1)
                next_obs, learned = members.step(current, action, None)
                reward = self._exact_reward(current, action, next_obs)
                total = total + (reward if learned is None else learned)
                current = next_obs
            if not total.requires_grad:  # the reward depends on no state
                return None
            (gradient,) = torch.autograd.grad(total.sum(), predicted)
        # What has never varied is predicted as it is.
        std = model.target_normalizer.std * model.target_normalizer.varies
        squared = (gradient * std[:size]).square().mean(dim=1)
        if model.learns_reward:
            # An error of the reward itself is an error of the return, once.
            own = std[size:].square().expand(num_members, 1)
            squared = torch.cat([squared, own], dim=-1)
        # One member whose rollouts run away does not decide.
        share = squared.median(dim=0).values
        total_share = share.sum()
        if not (torch.isfinite(total_share) and total_share > 0):
            return None
        return share / total_share

    def _exact_reward(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """Return the exact rewards `[E, N]`; zero where the model learns them."""
        if self._reward_fn is None:
            return obs.new_zeros(())
        return self._reward_fn(obs, self._model.codec.decode(action), next_obs)
