"""Evaluation: episodes run in lockstep, model calibration, plots, headless rendering and video."""

from mbrl_bilevel.evaluation.calibration import (
    Calibration,
    ensemble_moments,
    gaussian_calibration,
)
from mbrl_bilevel.evaluation.dynamics_metrics import (
    DynamicsMetrics,
    ErrorMetrics,
    dynamics_metrics,
    error_metrics,
    interval_width,
    mixture_calibration,
    negative_log_likelihood,
    persistence_error,
)
from mbrl_bilevel.evaluation.episodes import (
    BatchState,
    Episode,
    evaluate_episodes,
    initial_state,
    summarise,
)
from mbrl_bilevel.evaluation.mixture import GaussianMixture
from mbrl_bilevel.evaluation.open_loop import (
    OpenLoop,
    StepFn,
    open_loop,
    particle_interval,
    roll_out,
)
from mbrl_bilevel.evaluation.plots import (
    calibration_curve,
    learning_curve,
    save_figure,
    trajectory,
)
from mbrl_bilevel.evaluation.rendering import follow_body, needs_mujoco, prepare_headless_rendering
from mbrl_bilevel.evaluation.video import write_mp4
from mbrl_bilevel.evaluation.what_matters import what_matters

__all__ = [
    "BatchState",
    "Calibration",
    "DynamicsMetrics",
    "Episode",
    "ErrorMetrics",
    "GaussianMixture",
    "OpenLoop",
    "StepFn",
    "calibration_curve",
    "dynamics_metrics",
    "ensemble_moments",
    "error_metrics",
    "evaluate_episodes",
    "follow_body",
    "gaussian_calibration",
    "initial_state",
    "interval_width",
    "learning_curve",
    "mixture_calibration",
    "needs_mujoco",
    "negative_log_likelihood",
    "open_loop",
    "particle_interval",
    "persistence_error",
    "prepare_headless_rendering",
    "roll_out",
    "save_figure",
    "summarise",
    "trajectory",
    "what_matters",
    "write_mp4",
]
