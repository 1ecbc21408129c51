"""Outer objectives: how likely held-out data are, one step ahead or several."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mbrl_bilevel.bilevel.problem import ModelFn, ObjectiveFn, ParamDict
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import GaussianHead, Head

StepFn = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
"""`(predict, obs [B, D], action [B, A]) -> outputs [B, n]`: a Gaussian over the next observation.

`predict` is the model, from inputs `[B, D_x]` to outputs `[B, n]`. The first D of the outputs
returned are the mean of the next observation, in its own units.
"""


def as_model_fn(model: nn.Module) -> ModelFn:
    """Return `(inner_params, x) -> outputs`, the model with parameters replaced by inner_params."""

    def model_fn(inner_params: ParamDict, x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(model, inner_params, (x,))
        return outputs

    return model_fn


def held_out_nll(model_fn: ModelFn, head: Head, outer_data: tuple[Tensor, Tensor]) -> ObjectiveFn:
    """Return the mean negative log-likelihood of `outer_data`, in nats a sample.

    Args:
        model_fn: `(inner_params, x [N, ...]) -> z [*S, n]`.
        head: Reads z.
        outer_data: `(x [N, ...], y [N, ...])`, held out from what the model is trained on.

    Raises:
        ValueError: The data are empty, of different lengths, or unfit for the head.
    """
    x, y = outer_data
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"outer_data holds {len(x)} inputs and {len(y)} targets")
    head.check_targets(y)

    def objective(inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        del outer_params
        return -head.log_prob(model_fn(inner_params, x), y).mean()

    return objective


def residual_step(predict: Callable[[Tensor], Tensor], obs: Tensor, action: Tensor) -> Tensor:
    """The `StepFn` of a model from `(obs, action)` to a Gaussian over the change of obs."""
    outputs = predict(torch.cat([obs, action], dim=-1))
    size = obs.shape[-1]
    return torch.cat([outputs[..., :size] + obs, outputs[..., size:]], dim=-1)


class MultiStepNLL:
    """Negative log-likelihood of held-out trajectories, predicted open loop from their start.

    With P particles that start at `obs_0` and are propagated by samples of the model,

        L = -mean_{n,t} log( 1/P sum_p p(obs_t | particle_p,t-1, action_t-1) ),    t = 1 ... k,

    in nats a step. It is the likelihood of every `obs_t` given `obs_0` and the actions alone: each
    particle contributes its whole predictive Gaussian. For k = 1 it is the one-step NLL; for more,
    its mean over the noise lies above the exact value by an amount that vanishes as 1/P (Jensen).
    The noise is drawn once, so that this is a smooth function of the parameters.

    Args:
        model_fn: `(inner_params, x [B, D_x]) -> z [B, n]`, e.g. from `as_model_fn`.
        head: A Gaussian head over D dimensions.
        obs: `[N, k + 1, D]`.
        actions: `[N, k, A]`.
        num_particles: P. None: one particle that follows the mean, without noise.
        step_fn: How the model takes one step; None: `residual_step`. A model of normalised
            quantities needs one of its own, which normalises and maps the outputs back.
        seed: Of the noise.

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
        num_particles: int | None = 16,
        step_fn: StepFn | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(head, GaussianHead):
            raise ConfigError(f"MultiStepNLL needs a Gaussian head, not head {head.name!r}")
        if num_particles is not None and num_particles < 1:
            raise ConfigError(f"num_particles={num_particles}; it must be at least 1, or None")
        _check_trajectories(head, obs, actions)
        self.model_fn = model_fn
        self.head = head
        self.obs = obs
        self.actions = actions
        self.step_fn = residual_step if step_fn is None else step_fn
        self.num_particles = 1 if num_particles is None else num_particles
        num_rows = self.num_particles * len(obs)
        self._noise = obs.new_zeros(actions.shape[1], num_rows, head.target_size)
        if num_particles is not None:
            outputs = obs.new_zeros(actions.shape[1], num_rows, head.num_outputs)
            self._noise = head.noise(outputs, 1, torch.Generator().manual_seed(seed))[0]

    @property
    def noise(self) -> Tensor:
        """The frozen noise of every step and particle, `[k, P, N, D]`."""
        return self._noise.unflatten(1, (self.num_particles, -1))  # type: ignore[no-untyped-call, no-any-return]

    def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        """Return L, `[]`."""
        del outer_params

        def predict(x: Tensor) -> Tensor:
            return self.model_fn(inner_params, x)

        particles = self._repeat(self.obs[:, 0])
        log_probs = []
        for t in range(self.actions.shape[1]):
            outputs = self.step_fn(predict, particles, self._repeat(self.actions[:, t]))
            self.head.check_outputs(outputs)
            log_prob = self.head.log_prob(outputs, self._repeat(self.obs[:, t + 1]))
            log_probs.append(log_prob.view(self.num_particles, -1))
            particles = self.head.sample(outputs, self._noise[t][None])[0]
        per_step = torch.stack(log_probs).logsumexp(dim=1) - math.log(self.num_particles)
        return -per_step.mean()

    def _repeat(self, values: Tensor) -> Tensor:
        """`[N, ...] -> [P * N, ...]`."""
        return values.repeat(self.num_particles, *[1] * (values.ndim - 1))


def _check_trajectories(head: GaussianHead, obs: Tensor, actions: Tensor) -> None:
    shapes = f"obs has shape {list(obs.shape)}, actions {list(actions.shape)}"
    if obs.ndim != 3 or actions.ndim != 3:
        raise ValueError(f"{shapes}; they must be [N, k + 1, D] and [N, k, A]")
    if obs.shape[-1] != head.target_size:
        raise ValueError(f"{shapes}; the head has {head.target_size} dimensions")
    if len(obs) != len(actions) or obs.shape[1] != actions.shape[1] + 1:
        raise ValueError(f"{shapes}; k actions lead through k + 1 observations")
    if len(obs) == 0 or actions.shape[1] == 0:
        raise ValueError(f"{shapes}; there is no step to predict")
    for name, values in {"obs": obs, "actions": actions}.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} holds nan or infinity")
