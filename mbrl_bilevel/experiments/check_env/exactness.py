"""A registered task's reward and termination against the simulator, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbrl_bilevel.experiments.check_env.report import Finding, found
from mbrl_bilevel.experiments.check_env.vectors import EpisodeVectors
from mbrl_bilevel.types import RewardFn, TerminationFn

TOLERANCE = 1e-3
"""Of a reward, relative to 1 plus its size: models work in float32."""


@dataclass(frozen=True)
class Comparison:
    """What a function of the task returned, beside the simulator.

    Attributes:
        fact: For the head of the report.
        findings: What is wrong with it.
    """

    fact: str
    findings: list[Finding]


def compare_reward(reward_fn: RewardFn, episodes: Sequence[EpisodeVectors]) -> Comparison:
    """Evaluate `reward_fn` on all recorded steps."""
    inputs = _inputs(episodes)
    findings = list(_check_shape("reward_fn", reward_fn, inputs))
    if findings:
        return Comparison("registered, but cannot be used", findings)
    predicted = reward_fn(*inputs).double().numpy()
    rewards = np.concatenate([episode.rewards for episode in episodes])
    error = np.abs(predicted - rewards)
    wrong = ~(error <= TOLERANCE * (1 + np.abs(rewards)))  # nan is wrong, too
    if wrong.any():
        worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
        episode, step = _place(episodes, worst)
        findings = [
            found(
                "task_reward_wrong",
                f"episode {episode}, step {step}: reward_fn says {predicted[worst]:.6g}, the "
                f"environment paid {rewards[worst]:.6g} (wrong in {wrong.sum()} of {len(wrong)} "
                "steps; this is the worst)",
                episode=episode,
                step=step,
            )
        ]
    return Comparison(
        f"registered; largest error {error.max():.2g} in {len(error)} steps", findings
    )


def compare_termination(
    termination_fn: TerminationFn, episodes: Sequence[EpisodeVectors]
) -> Comparison:
    """Evaluate `termination_fn` on all recorded steps."""
    inputs = _inputs(episodes)
    findings = list(_check_shape("termination_fn", termination_fn, inputs))
    if findings:
        return Comparison("registered, but cannot be used", findings)
    predicted = termination_fn(*inputs).numpy().astype(bool)
    terminated = np.concatenate([episode.terminated for episode in episodes])
    wrong = np.flatnonzero(predicted != terminated)
    if wrong.size:
        episode, step = _place(episodes, int(wrong[0]))
        findings = [
            found(
                "task_termination_wrong",
                f"episode {episode}, step {step}: termination_fn says {predicted[wrong[0]]}, the "
                f"environment {terminated[wrong[0]]} (wrong in {wrong.size} of {len(predicted)} "
                "steps)",
                episode=episode,
                step=step,
            )
        ]
    ends = f"{terminated.sum()} terminations in {len(terminated)} steps"
    return Comparison(f"registered; {wrong.size} wrong, {ends}", findings)


def _inputs(episodes: Sequence[EpisodeVectors]) -> tuple[Tensor, Tensor, Tensor]:
    """Return obs, action and next_obs of all steps, `[N, ...]`, in the dtypes of agents."""
    obs = np.concatenate([episode.obs[:-1] for episode in episodes])
    next_obs = np.concatenate([episode.obs[1:] for episode in episodes])
    return _tensor(obs), _tensor(_actions(episodes)), _tensor(next_obs)


def _actions(episodes: Sequence[EpisodeVectors]) -> NDArray[Any]:
    actions = np.concatenate([episode.actions for episode in episodes])
    is_box = actions.dtype.kind == "f" or actions.ndim > 1
    return actions.reshape(len(actions), -1) if is_box else actions.astype(np.int64)


def _tensor(values: NDArray[Any]) -> Tensor:
    tensor = torch.as_tensor(values)
    return tensor.float() if tensor.is_floating_point() else tensor


def _check_shape(
    name: str, function: RewardFn | TerminationFn, inputs: tuple[Tensor, ...]
) -> Iterator[Finding]:
    """Whether it takes batches of any shape, as planners hand them in: `[P, N, D]`."""
    half = len(inputs[0]) // 2
    pairs = [part[: 2 * half].reshape(2, half, *part.shape[1:]) for part in inputs]
    try:
        flat, paired = function(*inputs), function(*pairs)
    except Exception as error:
        text = " ".join(str(error).split())
        yield found("task_fails", f"{name} raised {type(error).__name__}: {text}")
        return
    for result, given in ((flat, inputs[0]), (paired, pairs[0])):
        if not isinstance(result, Tensor) or result.shape != given.shape[:-1]:
            got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
            expected = list(given.shape[:-1])
            yield found(
                "task_shape",
                f"{name} returned {got} for observations {list(given.shape)}, not {expected}",
            )
            return
    same = flat[: paired.numel()].double()
    if not torch.allclose(paired.reshape(-1).double(), same, 1e-4, 1e-6, equal_nan=True):
        yield found(
            "task_shape", f"{name} returns other values for the same steps as a batch [2, N]"
        )


def _place(episodes: Sequence[EpisodeVectors], row: int) -> tuple[int, int]:
    """Return episode and step (from 1) of a row of all steps."""
    for number, episode in enumerate(episodes):
        if row < len(episode.rewards):
            return number, row + 1
        row -= len(episode.rewards)
    raise IndexError(row)
