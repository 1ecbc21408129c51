"""Evaluation: episodes run in lockstep, model calibration, plots, headless rendering and video."""

from mbrl_bilevel.evaluation.calibration import (
    Calibration,
    ensemble_moments,
    gaussian_calibration,
)
from mbrl_bilevel.evaluation.episodes import (
    BatchState,
    Episode,
    evaluate_episodes,
    summarise,
)
from mbrl_bilevel.evaluation.plots import (
    calibration_curve,
    learning_curve,
    save_figure,
    trajectory,
)
from mbrl_bilevel.evaluation.rendering import needs_mujoco, prepare_headless_rendering
from mbrl_bilevel.evaluation.video import write_mp4

__all__ = [
    "BatchState",
    "Calibration",
    "Episode",
    "calibration_curve",
    "ensemble_moments",
    "evaluate_episodes",
    "gaussian_calibration",
    "learning_curve",
    "needs_mujoco",
    "prepare_headless_rendering",
    "save_figure",
    "summarise",
    "trajectory",
    "write_mp4",
]
