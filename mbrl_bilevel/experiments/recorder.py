"""Writes down what happens in a training run: metrics, checkpoints, evaluations on the way."""

from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from mbrl_bilevel.callbacks import Callback
from mbrl_bilevel.config import TrainConfig
from mbrl_bilevel.evaluation import Episode
from mbrl_bilevel.experiments.evaluate import evaluation_metrics
from mbrl_bilevel.runs import (
    MetricsLogger,
    RunDir,
    TrainingProgress,
    prune_checkpoints,
    step_folder,
)
from mbrl_bilevel.types import Agent

EPISODE_WINDOW = 100
"""Episodes that rollout/ep_rew_mean averages over, as Stable-Baselines3 does."""


class Recorder(Callback):
    """The callback of a training run.

    Args:
        config: Of the run.
        run: Its folder.
        logger: Its metrics.
        progress: Its progress bar.
        evaluate: Evaluates the agent over so many episodes.
        past_metrics: What a resumed run has logged before.
    """

    def __init__(
        self,
        config: TrainConfig[Any],
        run: RunDir,
        logger: MetricsLogger,
        progress: TrainingProgress,
        evaluate: Callable[[Agent, int], list[Episode]],
        past_metrics: list[dict[str, Any]],
    ) -> None:
        self.config = config
        self.run = run
        self.logger = logger
        self.progress = progress
        self.evaluate = evaluate
        self.stop_requested = False
        past = [entry for entry in past_metrics if "rollout/ep_rew" in entry]
        self._returns = deque((e["rollout/ep_rew"] for e in past), maxlen=EPISODE_WINDOW)
        self._lengths = deque((e["rollout/ep_len"] for e in past), maxlen=EPISODE_WINDOW)
        self._clock: tuple[float, int] | None = None
        self._saved_step = -1

    def on_step(self, agent: Agent) -> bool:
        step = agent.num_timesteps
        self._clock = self._clock or (monotonic(), step)
        self.progress.update(step)
        every = self.config.eval.every
        if every and step % every == 0 and step < self.config.total_timesteps:
            episodes = self.evaluate(agent, self.config.eval.every_episodes)
            mean_reward = sum(e.total_reward for e in episodes) / len(episodes)
            own = evaluation_metrics(agent)
            self.logger.log(step, {"eval/mean_reward": mean_reward, **own})
        if step % self.config.checkpoint.every == 0:
            self.save(agent)
        return not self.stop_requested

    def on_episode_end(self, agent: Agent, episode_return: float, length: int) -> None:
        self._returns.append(episode_return)
        self._lengths.append(length)
        metrics = {
            "rollout/ep_rew": episode_return,
            "rollout/ep_len": float(length),
            "rollout/ep_rew_mean": sum(self._returns) / len(self._returns),
            "rollout/ep_len_mean": sum(self._lengths) / len(self._lengths),
        }
        if self._clock is not None and agent.num_timesteps > self._clock[1]:
            seconds = max(monotonic() - self._clock[0], 1e-9)
            metrics["time/fps"] = (agent.num_timesteps - self._clock[1]) / seconds
        self.logger.log(agent.num_timesteps, metrics)
        self.progress.update(agent.num_timesteps, ep_return=episode_return)

    def on_fit(self, agent: Agent, metrics: Mapping[str, float]) -> None:
        self.logger.log(agent.num_timesteps, metrics)
        self.progress.update(agent.num_timesteps, model_error=metrics.get("model/val_rmse"))

    def save(self, agent: Agent) -> None:
        """Write a checkpoint, unless this very step has one."""
        if agent.num_timesteps != self._saved_step:
            agent.save(step_folder(self.run.checkpoints, agent.num_timesteps))
            prune_checkpoints(self.run.checkpoints, self.config.checkpoint.keep)
            self._saved_step = agent.num_timesteps
