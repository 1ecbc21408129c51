"""Which predicted dimensions matter for the return, as the model itself has it."""

import torch
from torch import Tensor

from mbrl_bilevel.dynamics.model import DynamicsModel
from mbrl_bilevel.types import TaskFunctions

ROWS = 64
"""Steps that the return is differentiated at, in one look."""
SWAP_ROWS = 2048
"""Recorded steps that are asked what decides about their ends, at most."""


class Relevance:
    """Share of each predicted dimension in the error of the return.

    With the return R of the steps after a prediction, and its gradient `g = dR / dy_hat` in the
    normalised prediction, an error e changes the return by `g^T e` to first order, and its square
    is `e^T g g^T e`: the reward that the task itself asks for is the Mahalanobis reward with
    `U = E[g g^T]`. Its diagonal is what is measured here, in shares that add up to one.

    R is rolled out in the model: the step predicted, and `horizon` more under recorded actions, by
    the members' means; an agent's value of the state after them is added, if it has one. Dimensions
    matter that are paid for, and those that these depend on.

    Where an exact function ends episodes, what decides about the end matters as well. It has no
    gradient: dimension i decides in a share `m_i` of recorded steps, in which another recorded
    value of it, with all else as it was, changes whether the episode ends. In place of R stands
    `sum_t sum_i sqrt(m_i) s_i obs_i(t) / std_i` with random signs s: the expected square of its
    derivative adds up the squared derivatives of the dimensions that decide, by m. Shares in it and
    in the error of the return count alike, as nothing says here what an end costs.

    Args:
        model: Its normalisers are fitted before `look`.
        task: A termination that is learned does not count. The value is that of the state at the
            end of a rollout, and says the discount up to there; without one there is none.
        horizon: Steps after the one predicted.
    """

    def __init__(self, model: DynamicsModel, task: TaskFunctions, horizon: int) -> None:
        self._model = model
        self._task = task
        self._horizon = horizon
        self._decides: Tensor | None = None

    @torch.no_grad()
    def begin(self, inputs: Tensor, next_obs: Tensor) -> None:
        """Find out what decides about ends, in recorded steps.

        Args:
            inputs: The model's raw inputs, `[N, D_x]`.
            next_obs: Where they led to, `[N, D_obs]`.
        """
        ends = self._task.termination_fn
        if ends is None:
            return
        size = self._model.obs_size
        stride = -(-len(inputs) // SWAP_ROWS)
        inputs, next_obs = inputs[::stride], next_obs[::stride]
        obs, action = inputs[:, :size], self._model.codec.decode(inputs[:, size:])
        # Another recorded value: that of half the record later.
        others = next_obs.roll(len(next_obs) // 2, dims=0)
        ended = ends(obs, action, next_obs)
        changed = []
        for i in range(size):
            swapped = next_obs.clone()
            swapped[:, i] = others[:, i]
            changed.append((ends(obs, action, swapped) != ended).float().mean())
        decides = torch.stack(changed)
        std = next_obs.std(dim=0)
        self._decides = (decides.sqrt() / std).where(decides > 0, 0.0) if decides.any() else None

    def look(self, inputs: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return the shares `[D]` as one look has them; None: nothing changes the return.

        Args:
            inputs: The model's raw inputs of recorded steps, in their order, `[N, D_x]`.
            generator: Chooses the steps.
        """
        model, size = self._model, self._model.obs_size
        horizon = min(self._horizon, len(inputs) - 1)
        value = self._task.value
        pays = self._task.reward_fn is not None or model.learns_reward or value is not None
        if horizon < 1 or not (pays or self._decides is not None):
            return None
        discount = 1.0 if value is None else value.discount
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
            visited = predicted
            current = predicted
            for t in range(1, horizon + 1):
                action = inputs[rows + t][:, size:].expand(num_members, -1, -1)
                next_obs, learned = members.step(current, action, None)
                reward = self._exact_reward(current, action, next_obs)
                total = total + discount**t * (reward if learned is None else learned)
                visited = visited + next_obs
                current = next_obs
            if value is not None:
                total = total + discount ** (horizon + 1) * value(current)
        shares = []
        if total.requires_grad:  # else the reward depends on no state
            again = self._decides is not None
            (gradient,) = torch.autograd.grad(total.sum(), predicted, retain_graph=again)
            shares.append(self._share(gradient, pays=True))
        if self._decides is not None:
            signs = torch.randint(2, (len(rows), size), generator=generator).to(inputs.device)
            weights = self._decides * (2 * signs - 1)
            (gradient,) = torch.autograd.grad(visited, predicted, weights.expand_as(visited))
            shares.append(self._share(gradient, pays=False))
        known = [share for share in shares if share is not None]
        return torch.stack(known).mean(dim=0) if known else None

    def _share(self, gradient: Tensor, *, pays: bool) -> Tensor | None:
        """Return shares `[D]` from gradients `[E, N, D_obs]`; of a return, if that is what pays."""
        model, size = self._model, self._model.obs_size
        # What has never varied is predicted as it is.
        std = model.target_normalizer.std * model.target_normalizer.varies
        squared = (gradient * std[:size]).square().mean(dim=1)
        if model.learns_reward:
            # An error of the reward itself is an error of the return, once.
            own = std[size:].square() if pays else 0 * std[size:]
            squared = torch.cat([squared, own.expand(len(squared), 1)], dim=-1)
        # One member whose rollouts run away does not decide.
        share = squared.median(dim=0).values
        total = share.sum()
        if not (torch.isfinite(total) and total > 0):
            return None
        return share / total

    def _exact_reward(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """Return the exact rewards `[E, N]`; zero where the model learns them."""
        if self._task.reward_fn is None:
            return obs.new_zeros(())
        return self._task.reward_fn(obs, self._model.codec.decode(action), next_obs)
