"""A training run from beginning to end, in a run folder."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mbrl_bilevel import build
from mbrl_bilevel.config import TrainConfig, to_yaml
from mbrl_bilevel.evaluation import Episode, summarise
from mbrl_bilevel.experiments.evaluate import (
    as_results,
    evaluate_agent,
    evaluation_metrics,
    prepare_process,
    video_fps,
)
from mbrl_bilevel.experiments.recorder import Recorder
from mbrl_bilevel.experiments.report import write_plots, write_video
from mbrl_bilevel.runs import (
    MetricsLogger,
    RunDir,
    TrainingProgress,
    latest_checkpoint,
    read_metrics,
    versions,
    write_text_atomic,
)
from mbrl_bilevel.types import Agent


def train(
    config: TrainConfig[Any], run_path: Path, *, resume: bool = False, show_progress: bool = True
) -> dict[str, Any]:
    """Train an agent, evaluate it, and leave everything in the run folder.

    Ctrl-C (or SIGTERM) stops after the step under way and saves a checkpoint; the summary's
    status is `"interrupted"` then, else `"completed"`.

    Args:
        config: What to run.
        run_path: The run's folder; must hold no run yet, or, with `resume`, the one to go on with.
        resume: Go on from the newest checkpoint.
        show_progress: On stderr.

    Returns:
        What summary.json holds.

    Raises:
        MBRLError: If the environment, the folder or the checkpoint is at fault.
    """
    prepare_process(config)
    fps = video_fps(config) if config.eval.video else None
    agent = build.build_agent(config, build.build_env(config))
    run = RunDir.open(run_path) if resume else RunDir.create(run_path)
    start = _restore(agent, run) if resume else 0
    past = _past_metrics(run, start) if resume else []
    write_text_atomic(run.config_path, to_yaml(config))
    with (
        MetricsLogger(run.path, resume_step=start if resume else None) as logger,
        TrainingProgress(
            config.total_timesteps, start_step=start, enabled=show_progress
        ) as progress,
    ):
        recorder = Recorder(
            config, run, logger, progress, lambda a, n: evaluate_agent(config, a, n), past
        )
        summary = _describe(config) | {"status": "running", "env_steps": start}
        run.write_summary(summary)  # nobody takes what an earlier part left for the end
        try:
            with _stop_gracefully(recorder):
                agent.learn(max(0, config.total_timesteps - start), callback=recorder)
            recorder.save(agent)
            summary |= {"status": "interrupted", "env_steps": agent.num_timesteps}
            if not recorder.stop_requested:
                progress.close()
                episodes = evaluate_agent(
                    config,
                    agent,
                    config.eval.episodes,
                    record_last=fps is not None,
                    show_progress=show_progress,
                )
                summary |= _conclude(agent, episodes, run, logger, fps)
                summary["status"] = "completed"
        except KeyboardInterrupt:  # the second one: what came after the last checkpoint is lost
            summary |= {"status": "interrupted", "env_steps": agent.num_timesteps}
            raise
        except Exception as error:
            summary |= {"status": "failed", "error": str(error), "env_steps": agent.num_timesteps}
            raise
        finally:
            summary["wall_time_s"] = logger.time_s
            run.write_summary(summary)
    return summary


def _restore(agent: Agent, run: RunDir) -> int:
    """Load the newest checkpoint, if there is one yet; return the steps it has."""
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is not None:
        agent.restore(checkpoint)
    return agent.num_timesteps


def _past_metrics(run: RunDir, start: int) -> list[dict[str, Any]]:
    """Return what was logged up to the checkpoint; fails before the run is changed."""
    if not run.metrics_path.exists():
        return []
    return [row for row in read_metrics(run.metrics_path) if row["step"] <= start]


def _conclude(
    agent: Agent,
    episodes: Sequence[Episode],
    run: RunDir,
    logger: MetricsLogger,
    fps: float | None,
) -> dict[str, float]:
    """Write down the final evaluation: metrics, plots, and a video if it was filmed."""
    result = summarise(episodes)
    metrics = evaluation_metrics(agent)
    logger.log(agent.num_timesteps, {"eval/mean_reward": result["eval_return_mean"], **metrics})
    write_plots(agent, episodes, run, logger)
    if fps is not None:
        write_video(episodes[-1], run, "final", fps)
    return result | as_results(metrics)


def _describe(config: TrainConfig[Any]) -> dict[str, Any]:
    return {
        "name": config.name,
        "env_id": config.env.id,
        "agent": config.agent.name,
        "objective": config.objective.name,
        "seed": config.seed,
        "total_timesteps": config.total_timesteps,
        "versions": versions(),
    }


@contextmanager
def _stop_gracefully(recorder: Recorder) -> Iterator[None]:
    """Turn the first Ctrl-C into a stop between two steps; the second one works as ever."""

    def request_stop(number: int, frame: FrameType | None) -> None:
        del frame
        recorder.stop_requested = True
        signal.signal(number, previous[number])

    if threading.current_thread() is not threading.main_thread():  # signals are not ours
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {int(number): signal.getsignal(number) for number in signals}
    for number in signals:
        signal.signal(number, request_stop)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, previous[number])
