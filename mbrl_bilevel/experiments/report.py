"""What a run leaves for the eye: plots and a video."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mbrl_bilevel.evaluation import (
    Episode,
    calibration_curve,
    ensemble_moments,
    gaussian_calibration,
    learning_curve,
    save_figure,
    trajectory,
    write_mp4,
)
from mbrl_bilevel.runs import MetricsLogger, RunDir, read_metrics
from mbrl_bilevel.types import Agent, ModelAgent, ReportingAgent

TRAJECTORY_STEPS = 50
"""Steps of the open-loop prediction that is plotted."""


def write_plots(
    agent: Agent, episodes: Sequence[Episode], run: RunDir, logger: MetricsLogger | None
) -> None:
    """Plot the learning curve and, of a model, an open-loop prediction and the calibration.

    The last two are of evaluation episodes, which the model has not seen. An agent without a
    model, or with one that is not fitted yet, has none; others have pictures of their own.
    """
    figures = {"learning_curve": learning_curve(read_metrics(run.metrics_path))}
    if isinstance(agent, ModelAgent) and agent.num_fits > 0:
        figures |= _model_figures(agent, episodes)
    if isinstance(agent, ReportingAgent):
        figures |= agent.figures()
    for name, figure in figures.items():
        path = run.plots / f"{name}.png"
        save_figure(figure, path)
        if logger is not None:
            logger.log_picture(agent.num_timesteps, f"plots/{name}", path)


def _model_figures(agent: ModelAgent, episodes: Sequence[Episode]) -> dict[str, Figure]:
    """Return an open-loop prediction along the last episode, and the one-step calibration."""
    last = episodes[-1]
    steps = min(last.length, TRAJECTORY_STEPS)
    samples = agent.sample_trajectories(last.obs[0], last.actions[:steps])
    mean, std = ensemble_moments(
        *agent.predict_next_obs(
            np.concatenate([e.obs[:-1] for e in episodes]),
            np.concatenate([e.actions for e in episodes]),
        )
    )
    targets = np.concatenate([e.obs[1:] for e in episodes])
    return {
        "trajectory": trajectory(last.obs[: steps + 1], samples),
        "calibration": calibration_curve(gaussian_calibration(mean, std, targets)),
    }


def write_video(episode: Episode, run: RunDir, name: str, fps: float) -> Path:
    """Write the frames of an episode to `videos/<name>.mp4` and return that path."""
    path = run.videos / f"{name}.mp4"
    write_mp4(episode.frames, path, fps)
    return path
