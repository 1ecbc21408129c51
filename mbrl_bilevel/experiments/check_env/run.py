"""The check of an environment from beginning to end."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np

from mbrl_bilevel import build
from mbrl_bilevel.environments import env_name, flatten_observations, make_as_registered
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.experiments.check_env.determinism import check_determinism, check_starts
from mbrl_bilevel.experiments.check_env.endings import check_endings
from mbrl_bilevel.experiments.check_env.exactness import compare_reward, compare_termination
from mbrl_bilevel.experiments.check_env.gymnasium_checker import check_by_gymnasium
from mbrl_bilevel.experiments.check_env.hidden_state import check_hidden_state
from mbrl_bilevel.experiments.check_env.learnability import check_learnability
from mbrl_bilevel.experiments.check_env.recording import (
    RecordedEpisode,
    closing,
    random_actions,
    record_episode,
)
from mbrl_bilevel.experiments.check_env.report import Finding, Report
from mbrl_bilevel.experiments.check_env.returned import check_returned
from mbrl_bilevel.experiments.check_env.spaces import check_spaces
from mbrl_bilevel.experiments.check_env.vectors import EpisodeVectors, as_vectors, has_vectors
from mbrl_bilevel.runs import count_progress, derive_seed

MIN_EPISODES, MAX_EPISODES = 5, 100
MIN_STEPS = 500
"""What is recorded unless a number of episodes is asked for."""


def check_env(
    env: gym.Env[Any, Any] | str,
    *,
    kwargs: Mapping[str, Any] | None = None,
    num_episodes: int | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> Report:
    """Look for whatever keeps a model, or an agent that plans with it, from learning.

    Runs Gymnasium's checker, then plays episodes of random actions (every other one pushes each
    dimension of a Box to its bounds) and looks at what comes back. `FAULTS` lists what can be
    found.

    Args:
        env: The id of an environment, or one that is made; that one stays open. By an id more is
            checked: that two environments made alike are alike, and that closing works.
        kwargs: Arguments of the environment, with an id.
        num_episodes: To record, at least 1. None: 5, or as many (up to 100) as make 500 steps.
        seed: Of resets and actions.
        show_progress: On stderr.

    Raises:
        ConfigError: If the id or an argument is not known, or `num_episodes` or `seed` impossible.
        EnvError: If the environment fails while it is made.
    """
    if num_episodes is not None and num_episodes < 1:
        raise ConfigError(f"num_episodes must be at least 1, got {num_episodes}")
    with ExitStack() as opened:
        make = None
        if isinstance(env, str):
            # Without Gymnasium's passive checker: what it would raise or warn of is found here.
            make = partial(make_as_registered, env, kwargs, disable_env_checker=True)
            env_id, env = env, opened.enter_context(closing(make()))
        else:
            env_id = env_name(env)
        findings = list(check_spaces(env))
        if any(finding.code == "space_missing" for finding in findings):
            return Report(env_id, {}, tuple(findings))
        is_refused = any(finding.code == "obs_space_image" for finding in findings)
        # Thousands of images take gigabytes, and nothing would be learned from them.
        episodes = [] if is_refused else _record(env, num_episodes, seed, show_progress)
        vectors = as_vectors(episodes, env)
        findings += [
            *check_returned(episodes, env.observation_space),
            *(record.failure for record in episodes if record.failure is not None),
            *check_endings(episodes, _time_limit(env)),
            *check_starts(episodes),
            *check_determinism(env, derive_seed(seed, "determinism"), make),
            *check_learnability(vectors),
            *check_hidden_state(vectors, env.action_space, np.random.default_rng(seed)),
        ]
        facts = _facts(env, episodes)
        exact_facts, exact_findings = _check_task(env, vectors)
        if make is None:
            findings += check_by_gymnasium(env, may_close=False)
        else:
            findings += check_by_gymnasium(opened.enter_context(closing(make())), may_close=True)
    return Report(env_id, facts | exact_facts, (*findings, *exact_findings))


def _record(
    env: gym.Env[Any, Any], num_episodes: int | None, seed: int, show_progress: bool
) -> list[RecordedEpisode]:
    episodes: list[RecordedEpisode] = []
    num = num_episodes or MIN_EPISODES
    with count_progress(num, "recording", "random actions", enabled=show_progress) as advance:
        for number in count():
            actions = random_actions(
                env.action_space,
                derive_seed(seed, "actions", number),
                at_bounds=number % 2 == 1,
            )
            record = record_episode(
                env, derive_seed(seed, "episode", number), actions, episode=number
            )
            episodes.append(record)
            advance()
            if record.failure is not None or record.was_given_up:
                break  # the next one would show the same, after as many steps
            num_steps = sum(len(each.steps) for each in episodes)
            has_enough = num_steps >= MIN_STEPS or len(episodes) == MAX_EPISODES
            if len(episodes) >= num and (num_episodes is not None or has_enough):
                break
    return episodes


def _time_limit(env: gym.Env[Any, Any]) -> int | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            return int(env._max_episode_steps)
        env = env.env
    return None


def _check_task(
    env: gym.Env[Any, Any], vectors: Sequence[EpisodeVectors]
) -> tuple[dict[str, str], list[Finding]]:
    """Compare the registered functions, if there are any, with what was recorded."""
    facts = {"reward": "not registered: learned", "termination": "not registered: learned"}
    findings: list[Finding] = []
    if not has_vectors(env.observation_space):
        return {}, []
    task = build.find_task(flatten_observations(env))
    if task is None or not vectors:
        return facts, findings
    if task.reward_fn is not None:
        comparison = compare_reward(task.reward_fn, vectors)
        facts["reward"] = comparison.fact
        findings += comparison.findings
    if task.termination_fn is not None:
        comparison = compare_termination(task.termination_fn, vectors)
        facts["termination"] = comparison.fact
        findings += comparison.findings
    return facts, findings


def _facts(env: gym.Env[Any, Any], episodes: Sequence[RecordedEpisode]) -> dict[str, str]:
    facts = {"observation": str(env.observation_space), "action": str(env.action_space)}
    if episodes:
        lengths = [len(record.steps) for record in episodes]
        limit = _time_limit(env)
        facts["recorded"] = (
            f"{len(episodes)} episodes of {min(lengths)} to {max(lengths)} steps of random "
            f"actions; {'no time limit' if limit is None else f'time limit {limit}'}"
        )
    return facts
