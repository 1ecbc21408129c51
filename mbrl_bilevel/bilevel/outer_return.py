"""Outer objectives of what a rollout is worth: its predicted return, and a value of its states."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.problem import ModelFn, ParamDict
from mbrl_bilevel.bilevel.rollouts import OpenLoopRollouts, StepFn, check_finite
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import Head
from mbrl_bilevel.types import RewardFn

ValueFn = Callable[[Tensor], Tensor]
"""`obs [B, D] -> value [B]`."""


class ReturnError:
    """Squared error of the returns that a model predicts for recorded action sequences.

    With `R_nj = sum_{i=1..j} gamma^i r_ni` recorded, and the same of the model's rollout from the
    recorded first observation, averaged over its P particles,

        L = mean_{n,j} (R_hat_nj - R_nj)^2,    j = 1 ... k,

    in squared units of the reward, or with `normalise` without a unit. Near the truth it is the
    model's squared error weighted by the return's gradient (docs/theory.md): it sees the errors
    that the task sees. With particles it lies above the error of the exact expected return by
    1/P of the variance of a particle's return, in the mean over the noise.

    Args:
        model_fn: `(inner_params, x [B, D_x]) -> z [B, n]`, e.g. from `as_model_fn`.
        head: A Gaussian head over D dimensions; over D + 1 without a `reward_fn`.
        obs: `[N, k + 1, D]`.
        actions: `[N, k, A]`.
        reward_fn: `(obs [B, D], action [B, A], next_obs [B, D]) -> [B]`: a task's exact one, or
            one that is learned and held fixed here. None: the model predicts the reward beside the
            next observation, as the output after its D, and learns it with that.
        rewards: `[N, k]`, as recorded; None: what `reward_fn` says of the recorded observations.
        discount: gamma, in (0, 1].
        last_only: Only the whole return, j = k.
        normalise: Divide the error of each j by the variance of the recorded `R_nj` over n, so that
            predicting their mean has the error 1.
        num_particles: P. None: one particle that follows the mean, without noise.
        step_fn: How the model takes one step; None: `residual_step`. A model of normalised
            quantities needs one of its own, which normalises and maps the outputs back.
        seed: Of the noise.

    Raises:
        ConfigError: The discount, P or the head is impossible, or there are no rewards.
        ValueError: The trajectories are empty, not finite, or of shapes that do not fit, the
            rewards are, or their returns do not vary although they are to be normalised.
    """

    def __init__(
        self,
        model_fn: ModelFn,
        head: Head,
        obs: Tensor,
        actions: Tensor,
        reward_fn: RewardFn | None,
        rewards: Tensor | None = None,
        discount: float = 1.0,
        last_only: bool = False,
        normalise: bool = False,
        num_particles: int | None = None,
        step_fn: StepFn | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 < discount <= 1:
            raise ConfigError(f"discount={discount!r}; it must lie in (0, 1]")
        self.rollouts = OpenLoopRollouts(
            model_fn, head, obs, actions, num_particles, step_fn, seed, reward_fn is None
        )
        self.reward_fn = reward_fn
        self._discounts = discount ** torch.arange(1, actions.shape[1] + 1).to(obs)
        if rewards is None:
            rewards = self._recorded_rewards()
        elif rewards.shape != actions.shape[:2]:
            raise ValueError(
                f"rewards has shape {list(rewards.shape)}; it must be [N, k], "
                f"{list(actions.shape[:2])}"
            )
        check_finite("rewards", rewards)
        self._error = _SquaredError("returns", self._returns(rewards.to(obs)), last_only, normalise)

    def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        """Return L, `[]`."""
        del outer_params
        rewards = []
        for step in self.rollouts.steps(inner_params):
            if self.reward_fn is None:
                reward = step.sample[:, -1]
            else:
                reward = _rows("reward_fn", self.reward_fn(step.obs, step.action, step.sample))
            rewards.append(self.rollouts.per_particle(reward).mean(dim=0))
        return self._error(self._returns(torch.stack(rewards, dim=1)))

    def _returns(self, rewards: Tensor) -> Tensor:
        """Discounted sums `[N, k]` of rewards `[N, k]`, over the first j steps for every j."""
        return (self._discounts * rewards).cumsum(dim=1)

    @torch.no_grad()
    def _recorded_rewards(self) -> Tensor:
        if self.reward_fn is None:
            raise ConfigError("rewards is None and so is reward_fn; one of them must say the truth")
        obs, num_steps = self.rollouts.obs, self.rollouts.num_steps
        start, end = obs[:, :-1].flatten(0, 1), obs[:, 1:].flatten(0, 1)
        rewards = self.reward_fn(start, self.rollouts.actions.flatten(0, 1), end)
        return _rows("reward_fn", rewards, len(start)).view(-1, num_steps)


class ValueEquivalence:
    """Squared error of a value function across one model step or more.

    With the states `s_hat_t` of the model's rollouts, recorded ones `s_t`, and P particles,

        L = mean_{n,t} (1/P sum_p V(s_hat_ntp) - V(s_nt))^2,    t = 1 ... k,

    in squared units of V, or with `normalise` without a unit. A model is good if it preserves the
    value, whatever else it gets wrong (Grimm et al. 2020, the value equivalence principle). Values
    of the recorded states are computed once: make another objective when `value_fn` has changed.

    Args:
        model_fn, obs, actions, num_particles, step_fn, seed: As for `ReturnError`.
        head: A Gaussian head over D dimensions.
        value_fn: V, held fixed: `obs [B, D] -> [B]`.
        last_only: Only t = k.
        normalise: Divide the error of each t by the variance of the recorded `V(s_nt)` over n.

    Raises:
        ConfigError: P or the head is impossible.
        ValueError: The trajectories are empty, not finite, or of shapes that do not fit, V returns
            something else than `[B]` finite numbers, or they do not vary although they are to be
            normalised.
    """

    def __init__(
        self,
        model_fn: ModelFn,
        head: Head,
        obs: Tensor,
        actions: Tensor,
        value_fn: ValueFn,
        last_only: bool = False,
        normalise: bool = False,
        num_particles: int | None = None,
        step_fn: StepFn | None = None,
        seed: int = 0,
    ) -> None:
        self.rollouts = OpenLoopRollouts(model_fn, head, obs, actions, num_particles, step_fn, seed)
        self.value_fn = value_fn
        states = obs[:, 1:].flatten(0, 1)
        with torch.no_grad():
            values = _rows("value_fn", value_fn(states), len(states))
        check_finite("value_fn of the recorded obs", values)
        recorded = values.view(actions.shape[:2])
        self._error = _SquaredError("values", recorded, last_only, normalise)

    def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        """Return L, `[]`."""
        del outer_params
        values = [
            self.rollouts.per_particle(_rows("value_fn", self.value_fn(step.sample))).mean(dim=0)
            for step in self.rollouts.steps(inner_params)
        ]
        return self._error(torch.stack(values, dim=1))


class _SquaredError:
    """The mean of `(predicted - recorded)^2 / scale` over `[N, k]`, or over the last column."""

    def __init__(self, name: str, recorded: Tensor, last_only: bool, normalise: bool) -> None:
        self._columns = slice(-1, None) if last_only else slice(None)
        self._recorded = recorded[:, self._columns]
        self._scale = torch.ones_like(self._recorded[0])
        if normalise:
            self._scale = self._recorded.var(dim=0, correction=0)
            spread = self._scale.sqrt() / self._recorded.abs().amax(dim=0).clamp(
                min=torch.finfo(recorded.dtype).tiny
            )
            # What rounding alone leaves is no spread.
            if (spread <= math.sqrt(len(recorded)) * torch.finfo(recorded.dtype).eps).any():
                raise ValueError(
                    f"normalise=True, but the recorded {name} do not vary over the {len(recorded)} "
                    "trajectories"
                )

    def __call__(self, predicted: Tensor) -> Tensor:
        errors = predicted[:, self._columns] - self._recorded
        return (errors.square() / self._scale).mean()


def _rows(name: str, values: Tensor, num_rows: int | None = None) -> Tensor:
    """`values [B]`, or ValueError if they are of another shape."""
    if values.ndim != 1 or (num_rows is not None and len(values) != num_rows):
        rows = "B" if num_rows is None else num_rows
        raise ValueError(f"{name} returned shape {list(values.shape)}; it must return [{rows}]")
    return values
