"""Recorded action sequences, predicted open loop by a model that is a function of parameters."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mbrl_bilevel.bilevel.problem import ModelFn, ParamDict
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import GaussianHead, Head

StepFn = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
"""`(predict, obs [B, D], action [B, A]) -> outputs [B, n]`: a Gaussian over the next observation.

`predict` is the model, from inputs `[B, D_x]` to outputs `[B, n]`. The first D of the outputs
returned are the mean of the next observation, in its own units. Where the model predicts the
reward, too, its mean is the output after those.
"""


class RolloutStep(NamedTuple):
    """One step of all P N particles, those of a trajectory N rows apart.

    Attributes:
        obs: Where it starts, `[P * N, D]`.
        action: `[P * N, A]`.
        outputs: What the step function made of them, `[P * N, n]`.
        sample: What was drawn from the outputs, `[P * N, D]`, or `[P * N, D + 1]` with a reward.
    """

    obs: Tensor
    action: Tensor
    outputs: Tensor
    sample: Tensor


class OpenLoopRollouts:
    """N recorded trajectories, each followed by P particles through k steps of the model.

    The noise is drawn once, so that whatever is computed from them is a smooth function of the
    parameters.

    Args:
        model_fn: `(inner_params, x [B, D_x]) -> z [B, n]`.
        head: A Gaussian head over D dimensions, or D + 1 with a reward.
        obs: `[N, k + 1, D]`.
        actions: `[N, k, A]`.
        num_particles: P. None: one particle that follows the mean, without noise.
        step_fn: How the model takes one step; None: `residual_step`.
        seed: Of the noise.
        predicts_reward: Whether the model predicts the reward beside the D observations.

    Raises:
        ConfigError: P or the head is impossible.
        ValueError: The trajectories are empty, not finite, or of shapes that do not fit.
    """

    def __init__(
        self,
        model_fn: ModelFn,
        head: Head,
        obs: Tensor,
        actions: Tensor,
        num_particles: int | None,
        step_fn: StepFn | None,
        seed: int,
        predicts_reward: bool = False,
    ) -> None:
        if not isinstance(head, GaussianHead):
            raise ConfigError(f"open-loop prediction needs a Gaussian head, not head {head.name!r}")
        if num_particles is not None and num_particles < 1:
            raise ConfigError(f"num_particles={num_particles}; it must be at least 1, or None")
        _check_trajectories(head.target_size, obs, actions, predicts_reward)
        self.model_fn = model_fn
        self.head = head
        self.obs = obs
        self.actions = actions
        self.step_fn = residual_step if step_fn is None else step_fn
        self.num_particles = 1 if num_particles is None else num_particles
        num_rows = self.num_particles * len(obs)
        self._noise = obs.new_zeros(self.num_steps, num_rows, head.target_size)
        if num_particles is not None:
            outputs = obs.new_zeros(self.num_steps, num_rows, head.num_outputs)
            self._noise = head.noise(outputs, 1, torch.Generator().manual_seed(seed))[0]

    @property
    def num_steps(self) -> int:
        """The length k of every trajectory."""
        return self.actions.shape[1]

    @property
    def noise(self) -> Tensor:
        """The frozen noise of every step and particle, `[k, P, N, D]`."""
        return self._noise.unflatten(1, (self.num_particles, -1))  # type: ignore[no-untyped-call, no-any-return]

    def steps(self, inner_params: ParamDict) -> Iterator[RolloutStep]:
        """Yield the k steps, from the recorded first observations on.

        Raises:
            ValueError: The step function's outputs are not what the head reads.
        """

        def predict(x: Tensor) -> Tensor:
            return self.model_fn(inner_params, x)

        particles = self.repeat(self.obs[:, 0])
        for t in range(self.num_steps):
            action = self.repeat(self.actions[:, t])
            outputs = self.step_fn(predict, particles, action)
            self.head.check_outputs(outputs)
            sample = self.head.sample(outputs, self._noise[t][None])[0]
            yield RolloutStep(particles, action, outputs, sample)
            particles = sample[:, : self.obs.shape[-1]]

    def repeat(self, values: Tensor) -> Tensor:
        """`[N, ...] -> [P * N, ...]`: each particle's own copy."""
        return values.repeat(self.num_particles, *[1] * (values.ndim - 1))

    def per_particle(self, values: Tensor) -> Tensor:
        """`[P * N] -> [P, N]`, the inverse order of `repeat`."""
        return values.view(self.num_particles, -1)


def residual_step(predict: Callable[[Tensor], Tensor], obs: Tensor, action: Tensor) -> Tensor:
    """The `StepFn` of a model from `(obs, action)` to a Gaussian over the change of obs."""
    outputs = predict(torch.cat([obs, action], dim=-1))
    size = obs.shape[-1]
    return torch.cat([outputs[..., :size] + obs, outputs[..., size:]], dim=-1)


def _check_trajectories(
    target_size: int, obs: Tensor, actions: Tensor, predicts_reward: bool
) -> None:
    shapes = f"obs has shape {list(obs.shape)}, actions {list(actions.shape)}"
    if obs.ndim != 3 or actions.ndim != 3:
        raise ValueError(f"{shapes}; they must be [N, k + 1, D] and [N, k, A]")
    if obs.shape[-1] + predicts_reward != target_size:
        wanted = "; one of them must be the reward, as there is no reward_fn"
        raise ValueError(
            f"{shapes}; the head has {target_size} dimensions{wanted if predicts_reward else ''}"
        )
    if len(obs) != len(actions) or obs.shape[1] != actions.shape[1] + 1:
        raise ValueError(f"{shapes}; k actions lead through k + 1 observations")
    if len(obs) == 0 or actions.shape[1] == 0:
        raise ValueError(f"{shapes}; there is no step to predict")
    for name, values in {"obs": obs, "actions": actions}.items():
        check_finite(name, values)


def check_finite(name: str, values: Tensor) -> None:
    """Raise ValueError if `values` holds nan or infinity."""
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} holds nan or infinity")
