"""Predictions many steps ahead, each from the one before: errors and coverage.

Models are asked along recorded actions, from a recorded observation. The uncertainty of a
prediction is that of particles, which each step draws at random.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mbrl_bilevel.evaluation.dynamics_metrics import COVERAGE_LEVELS

StepFn = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""`(obs [P, N, D], action [N, *shape], generator) -> next_obs [P, N, D]`, drawn at random."""

DEFAULT_KS = (1, 5, 20, 50)


@dataclass(frozen=True)
class OpenLoop:
    """Quality of predictions k steps ahead, for each k that there were windows for.

    Attributes:
        num_windows: From k to the windows that reach so far.
        rmse: From k to the error of the particles' mean, in normalised units; `inf` where the
            particles diverged.
        rmse_per_dim: From k to that of each dimension, `[D]`.
        coverage: From k to level to the share of values within the particles' interval.
        persistence: From k to the error of the prediction that nothing changes.
    """

    num_windows: dict[int, int]
    rmse: dict[int, float]
    rmse_per_dim: dict[int, Tensor]
    coverage: dict[int, dict[float, float]]
    persistence: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers by k (as a string), for JSON: `open_loop_rmse`, ..."""
        result: dict[str, Any] = {
            "open_loop_windows": {str(k): count for k, count in self.num_windows.items()},
            "open_loop_rmse": {str(k): value for k, value in self.rmse.items()},
            "open_loop_persistence": {str(k): value for k, value in self.persistence.items()},
        }
        levels = {level for by_level in self.coverage.values() for level in by_level}
        for level in sorted(levels):
            result[f"open_loop_coverage_{100 * level:g}"] = {
                str(k): by_level[level] for k, by_level in self.coverage.items()
            }
        return result


def open_loop(
    step_fn: StepFn,
    obs: Tensor,
    actions: Tensor,
    future_obs: Tensor,
    scale: Tensor,
    *,
    num_particles: int,
    generator: torch.Generator,
    ks: Sequence[int] = DEFAULT_KS,
    num_steps: Tensor | None = None,
    levels: Sequence[float] = COVERAGE_LEVELS,
) -> OpenLoop:
    """Predict along N windows of K recorded steps, and compare with what happened.

    Args:
        step_fn: Predicts one step; particle p stays particle p, so that each may have its model.
        obs: First observations, `[N, D]`.
        actions: `[N, K, *shape]`, as `step_fn` takes them.
        future_obs: What followed each action, `[N, K, D]`.
        scale: `[D]`, raw units of an observation per normalised unit.
        num_particles: P. Coverage at level p needs P > (1 + p) / (1 - p): 39 at 95 %.
        generator: For `step_fn`.
        ks: How many steps ahead; those above K, or that no window reaches, are left out.
        num_steps: `[N]`, the steps of each window that count; None: all.
        levels: Of the intervals.

    Raises:
        ValueError: If shapes do not fit, or an argument is out of range.
    """
    num_windows, length = actions.shape[:2]
    if future_obs.shape != (num_windows, length, obs.shape[1]) or len(obs) != num_windows:
        raise ValueError(
            f"shapes do not fit: obs {tuple(obs.shape)}, actions {tuple(actions.shape)}, "
            f"future_obs {tuple(future_obs.shape)}"
        )
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be at least 1, got {tuple(ks)}")
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels must be strictly between 0 and 1, got {tuple(levels)}")
    if num_steps is None:
        num_steps = torch.full((num_windows,), length, device=obs.device)
    last = max((k for k in ks if k <= length), default=0)
    result = OpenLoop({}, {}, {}, {}, {})
    rollout = roll_out(step_fn, obs, actions[:, :last], num_particles, generator)
    for k, particles in enumerate(rollout, start=1):
        reached = num_steps >= k
        if k not in ks or not reached.any():
            continue
        target = future_obs[reached, k - 1].double()
        error = (particles[:, reached].double().mean(dim=0) - target) / scale.double()
        result.num_windows[k] = int(reached.sum())
        result.rmse[k] = _rmse(error)
        result.rmse_per_dim[k] = error.square().mean(dim=0).sqrt()
        result.persistence[k] = _rmse((obs[reached].double() - target) / scale.double())
        result.coverage[k] = {
            level: _coverage(particles[:, reached], target, level) for level in levels
        }
    return result


def roll_out(
    step_fn: StepFn, obs: Tensor, actions: Tensor, num_particles: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the particles `[P, N, D]` after each of the K actions `[N, K, *shape]`.

    Raises:
        ValueError: If there is not at least one particle.
    """
    if num_particles < 1:
        raise ValueError(f"num_particles must be at least 1, got {num_particles}")
    particles = obs.expand(num_particles, *obs.shape)
    with torch.no_grad():
        for k in range(actions.shape[1]):
            particles = step_fn(particles, actions[:, k], generator)
            yield particles


def particle_interval(particles: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Return the ends `[N, D]` of the central interval of particles `[P, N, D]`.

    By order statistics at (P + 1) q, which cover as often as they say whatever the distribution
    is; the usual ones at (P - 1) q + 1 are too narrow for few particles. Wider intervals than
    from the lowest to the highest particle cannot be had.
    """
    ordered = particles.sort(dim=0).values
    low, high = (_order_statistic(ordered, (1 + sign * level) / 2) for sign in (-1, 1))
    return low, high


def _order_statistic(ordered: Tensor, probability: float) -> Tensor:
    num_particles = len(ordered)
    rank = min(max((num_particles + 1) * probability, 1.0), float(num_particles))
    below = int(rank)
    above = min(below + 1, num_particles)
    return torch.lerp(ordered[below - 1], ordered[above - 1], rank - below)


def _coverage(particles: Tensor, target: Tensor, level: float) -> float:
    low, high = particle_interval(particles, level)
    return float(((low <= target) & (target <= high)).double().mean())


def _rmse(error: Tensor) -> float:
    value = float(error.square().mean().sqrt())
    return float("inf") if math.isnan(value) else value
