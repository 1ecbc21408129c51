"""How good a trained model is on test episodes."""

from typing import Any

import torch
from torch import Tensor

from mbrl_bilevel.config.fit import OpenLoopConfig
from mbrl_bilevel.data import Transitions
from mbrl_bilevel.data.datasets import Windows
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.evaluation import (
    GaussianMixture,
    StepFn,
    dynamics_metrics,
    open_loop,
    persistence_error,
)

ROWS_AT_A_TIME = 8192


@torch.no_grad()
def judge_one_step(model: DynamicsModel, test: Transitions) -> dict[str, Any]:
    """Return error, likelihood and calibration of one-step predictions, for JSON.

    Normalised units are the standard deviations of the training data's changes of observation.
    """
    inputs, targets = model.tensors(test)
    x = model.input_normalizer.normalize(inputs)
    y = model.target_normalizer.normalize(targets)
    scale = model.target_normalizer.std
    metrics = dynamics_metrics(_predict(model, x), y, scale)
    next_obs = torch.as_tensor(test.next_obs, device=inputs.device)
    persistence = persistence_error(inputs[:, : model.obs_size], next_obs, scale)
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
    model: DynamicsModel, windows: Windows, config: OpenLoopConfig, generator: torch.Generator
) -> dict[str, Any]:
    """Return errors and coverage k steps ahead, for JSON.

    Normalised units are the standard deviations of the training data's observations.
    """
    device = model.elite_indices.device
    result = open_loop(
        _step_fn(model, config.num_particles),
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


def _predict(model: DynamicsModel, x: Tensor) -> GaussianMixture:
    """The predictive mixture for normalised inputs `[N, D_x]`."""
    num_members = model.network.ensemble_size
    outputs = [
        model.objective.predictive(model.network(rows.expand(num_members, -1, -1)))
        for rows in torch.split(x, ROWS_AT_A_TIME)
    ]
    return GaussianMixture(
        mean=torch.cat([output.mean for output in outputs], dim=1),
        log_var=torch.cat([output.log_var for output in outputs], dim=1),
    )


def _step_fn(model: DynamicsModel, num_particles: int) -> StepFn:
    """One step of all particles; each follows one member from beginning to end."""
    indices = torch.arange(num_particles, device=model.elite_indices.device)
    members = model.members(indices % model.network.ensemble_size)

    def step(obs: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(obs.shape, generator=generator).to(obs.device)
        next_obs, _ = members.step(obs, action.expand(len(obs), *action.shape), noise)
        return next_obs

    return step
