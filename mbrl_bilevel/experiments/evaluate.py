"""Evaluation of an agent: in a run, and of a run that lies on disk."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mbrl_bilevel import build
from mbrl_bilevel.config import TrainConfig, load_data
from mbrl_bilevel.errors import CheckpointError
from mbrl_bilevel.evaluation import (
    Episode,
    evaluate_episodes,
    needs_mujoco,
    prepare_headless_rendering,
    summarise,
)
from mbrl_bilevel.experiments.report import write_video
from mbrl_bilevel.runs import (
    RunDir,
    count_progress,
    derive_seed,
    latest_checkpoint,
    seed_everything,
)
from mbrl_bilevel.types import Predictor, ReportingAgent

DEFAULT_FPS = 30


def evaluate_agent(
    config: TrainConfig[Any],
    agent: Predictor,
    num_episodes: int,
    *,
    record_last: bool = False,
    show_progress: bool = False,
) -> list[Episode]:
    """Run episodes with seeds that are the run's own, and that training never uses."""
    what = f"over {num_episodes} episodes"
    with count_progress(num_episodes, "evaluating", what, enabled=show_progress) as advance:
        return evaluate_episodes(
            agent,
            lambda render_mode: build.build_env(config, render_mode),
            num_episodes,
            derive_seed(config.seed, "evaluation"),
            record_last=record_last,
            on_episode=lambda _: advance(),
        )


def evaluation_metrics(agent: object) -> dict[str, float]:
    """Return what an agent has to tell beside its episodes, by TensorBoard tag."""
    return agent.evaluation_metrics() if isinstance(agent, ReportingAgent) else {}


def as_results(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics by the names that results have: `eval/x` is `eval_x`."""
    return {tag.replace("/", "_"): value for tag, value in metrics.items()}


def video_fps(config: TrainConfig[Any]) -> float | None:
    """Return the frames per second to film at; None, with a warning, if nothing can be seen."""
    env = build.build_env(config)
    render_modes = env.metadata.get("render_modes") or []
    fps = float(env.metadata.get("render_fps") or DEFAULT_FPS)
    env_id = env.spec.id if env.spec is not None else config.env.id  # with its version
    env.close()
    if "rgb_array" not in render_modes:
        warnings.warn(f"no video: {config.env.id} has no render mode rgb_array", stacklevel=2)
        return None
    # Pygame's environments draw off the screen, but would look for one.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if needs_mujoco(env_id) and prepare_headless_rendering() is None:
        warnings.warn(
            "no video: MuJoCo can render neither with a display nor by EGL or OSMesa "
            "(on Debian: apt-get install libegl1 libgl1 libosmesa6)",
            stacklevel=2,
        )
        return None
    return fps


def evaluate_run(
    run_path: Path, num_episodes: int | None = None, *, video: bool = False
) -> dict[str, Any]:
    """Evaluate the newest checkpoint of a run, wherever the run lies.

    Args:
        run_path: The run's folder.
        num_episodes: None: as many as its configuration says.
        video: Record the last episode to `videos/evaluation.mp4`.

    Returns:
        Means as in summary.json, and `returns` and `lengths` of the episodes.

    Raises:
        MBRLError: If it is not a run, or its checkpoint is missing or damaged.
    """
    run = RunDir.open(run_path)
    config = build.train_config(load_data(run.config_path))
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{run.checkpoints} holds no checkpoint: nothing to evaluate yet")
    prepare_process(config)
    fps = video_fps(config) if video else None
    agent = build.build_agent(config, build.build_env(config))
    agent.restore(checkpoint)
    episodes = evaluate_agent(
        config,
        agent,
        num_episodes or config.eval.episodes,
        record_last=fps is not None,
        show_progress=True,
    )
    result: dict[str, Any] = {
        "env_id": config.env.id,
        "agent": config.agent.name,
        "objective": config.objective.name,
        "seed": config.seed,
        "env_steps": agent.num_timesteps,
        **summarise(episodes),
        **as_results(evaluation_metrics(agent)),
        "returns": [episode.total_reward for episode in episodes],
        "lengths": [episode.length for episode in episodes],
    }
    if fps is not None:
        result["video"] = str(write_video(episodes[-1], run, "evaluation", fps))
    return result


def prepare_process(config: TrainConfig[Any]) -> None:
    """Set what is global: threads and the seeds that third-party code draws from."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    seed_everything(config.seed)
