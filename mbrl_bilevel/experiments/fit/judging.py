"""How good a trained model is on test episodes."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mbrl_bilevel.config.fit import OpenLoopConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.data.datasets import Windows
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.evaluation import (
    DynamicsMetrics,
    GaussianMixture,
    StepFn,
    dynamics_metrics,
    open_loop,
    persistence_error,
)
from mbrl_bilevel.experiments.fit.fans import FanRecorder
from mbrl_bilevel.experiments.fit.full_head import FullHead
from mbrl_bilevel.experiments.fit.predicting import normalised, predictions


@torch.no_grad()
def judge_one_step(
    model: DynamicsModel, test: Transitions, head: FullHead | None = None
) -> dict[str, Any]:
    """Return error, likelihood and calibration of one-step predictions, for JSON.

    Normalised units are the standard deviations of the training data's changes of observation.
    With a full head, the likelihood is that of the full covariances.
    """
    scale = model.target_normalizer.std
    metrics = _dynamics_metrics(model, *normalised(model, test), head)
    obs, next_obs = (torch.as_tensor(o, device=scale.device) for o in (test.obs, test.next_obs))
    persistence = persistence_error(obs, next_obs, scale)
    calibration = metrics.calibration
    return {
        **metrics.to_dict(),
        "calibration": {
            "expected": calibration.expected.tolist(),
            "observed": calibration.observed.tolist(),
        },
        "persistence_rmse": persistence.rmse,
        "persistence_rmse_raw": persistence.rmse_raw,
    }


def judge_open_loop(
    model: DynamicsModel,
    windows: Windows,
    config: OpenLoopConfig,
    generator: torch.Generator,
    recorder: FanRecorder | None = None,
    head: FullHead | None = None,
) -> dict[str, Any]:
    """Return errors and coverage k steps ahead, for JSON; the recorder, if any, watches.

    Normalised units are the standard deviations of the training data's observations.
    """
    device = model.elite_indices.device
    step_fn = _step_fn(model, config.num_particles, head)
    result = open_loop(
        step_fn if recorder is None else recorder.watch(step_fn),
        torch.as_tensor(windows.obs, device=device),
        model.codec.encode(windows.actions),
        torch.as_tensor(windows.future_obs, device=device),
        model.input_normalizer.std[: model.obs_size],
        num_particles=config.num_particles,
        generator=generator,
        ks=config.ks,
        num_steps=torch.as_tensor(windows.num_steps, device=device),
    )
    return result.to_dict()


def _dynamics_metrics(
    model: DynamicsModel, x: Tensor, y: Tensor, head: FullHead | None
) -> DynamicsMetrics:
    """Metrics of the predictive mixture for normalised inputs `[N, D_x]` and targets `[N, D]`."""
    means, log_vars, log_probs = [], [], []
    for rows, prediction in predictions(model, x):
        log_var = prediction.log_var
        if head is not None:
            full = GaussianMixture(prediction.mean, scale_tril=head.scale_tril(log_var))
            log_probs.append(full.log_prob(y[rows]))
            log_var = head.log_var(log_var)
        means.append(prediction.mean)
        log_vars.append(log_var)
    # Full covariances of all rows would take D times as much memory, and correlations matter to
    # the joint likelihood alone.
    diagonal = GaussianMixture(torch.cat(means, dim=1), torch.cat(log_vars, dim=1))
    metrics = dynamics_metrics(diagonal, y, model.target_normalizer.std)
    if head is None:
        return metrics
    nll = -float(torch.cat(log_probs).mean()) / diagonal.num_dims
    return replace(metrics, nll=nll, nll_raw=nll + metrics.nll_raw - metrics.nll)


def _step_fn(model: DynamicsModel, num_particles: int, head: FullHead | None) -> StepFn:
    """One step of all particles; each follows one member from beginning to end."""
    indices = torch.arange(num_particles, device=model.elite_indices.device)
    indices = indices % model.network.ensemble_size
    members = model.members(indices)

    def step(obs: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(obs.shape, generator=generator).to(obs.device)
        if head is not None:
            noise = head.correlate(noise, indices)
        next_obs, _ = members.step(obs, action.expand(len(obs), *action.shape), noise)
        return next_obs

    return step
