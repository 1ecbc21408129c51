"""Outer objectives: how likely held-out data are, one step ahead or several."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mbrl_bilevel.bilevel.problem import ModelFn, ObjectiveFn, ParamDict
from mbrl_bilevel.bilevel.rollouts import OpenLoopRollouts, StepFn
from mbrl_bilevel.heads import Head


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
        self.rollouts = OpenLoopRollouts(model_fn, head, obs, actions, num_particles, step_fn, seed)

    @property
    def noise(self) -> Tensor:
        """The frozen noise of every step and particle, `[k, P, N, D]`."""
        return self.rollouts.noise

    def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
        """Return L, `[]`."""
        del outer_params
        rollouts = self.rollouts
        log_probs = []
        for t, step in enumerate(rollouts.steps(inner_params)):
            target = rollouts.repeat(rollouts.obs[:, t + 1])
            log_probs.append(rollouts.per_particle(rollouts.head.log_prob(step.outputs, target)))
        per_step = torch.stack(log_probs).logsumexp(dim=1) - math.log(rollouts.num_particles)
        return -per_step.mean()
