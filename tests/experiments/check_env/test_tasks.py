"""Registered rewards and terminations are compared with the environment, by its id."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

from mbrl_bilevel.experiments.check_env import Finding, Report, check_env
from mbrl_envs import register_task
from mbrl_envs.tasks import base
from tests.experiments.check_env import environments as envs


@pytest.fixture(autouse=True)
def _undo_registration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    monkeypatch.setattr(gym, "registry", gym.envs.registration.registry)
    monkeypatch.setattr(base, "_TASKS", dict(base._TASKS))
    return iter([None])


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    is_out = next_obs[..., 0].abs() > 0.3
    return (-next_obs[..., 0].square()).masked_fill(is_out, 0.0)


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    return next_obs[..., 0].abs() > 0.3


def check(cls: type[gym.Env[Any, Any]] = envs.Ends, **functions: Any) -> Report:
    gym.register("CheckedTask-v0", cls, max_episode_steps=envs.LENGTH)
    if functions:
        register_task("CheckedTask-v0", **functions)
    return check_env("CheckedTask-v0", num_episodes=4)


def only(report: Report, code: str) -> Finding:
    (finding,) = report.findings
    assert finding.code == code
    return finding


def test_exact_functions_have_no_fault() -> None:
    report = check(reward_fn=reward_fn, termination_fn=termination_fn)
    assert report.codes == []
    assert "registered; largest error" in report.facts["reward"]
    assert report.facts["termination"].startswith("registered; 0 wrong, ")


def test_without_a_task_both_are_learned() -> None:
    report = check()
    assert report.codes == []
    assert report.facts["reward"] == report.facts["termination"] == "not registered: learned"


def test_of_parts_they_get_one_vector() -> None:
    report = check(envs.InParts, reward_fn=lambda *args: -args[2][..., 0].square())
    assert report.codes == ["obs_space_flattened"]
    assert "registered; largest error" in report.facts["reward"]


def test_a_wrong_reward_is_shown_where_it_is_worst() -> None:
    report = check(reward_fn=lambda obs, action, next_obs: 1.1 * reward_fn(obs, action, next_obs))
    what = only(report, "task_reward_wrong").what
    assert "reward_fn says -0.09" in what
    assert "the environment paid -0.08" in what


def test_a_reward_that_is_nan_is_wrong() -> None:
    report = check(reward_fn=lambda obs, *_: torch.full(obs.shape[:-1], torch.nan))
    assert only(report, "task_reward_wrong").what.startswith(
        "episode 0, step 1: reward_fn says nan"
    )


def test_a_wrong_termination_is_counted() -> None:
    report = check(termination_fn=lambda *args: args[2][..., 0].abs() > 0.25)
    what = only(report, "task_termination_wrong").what
    assert "termination_fn says True, the environment False (wrong in " in what


@pytest.mark.parametrize(
    ("function", "code", "text"),
    [
        (lambda *_: 1.0, "task_shape", "returned float for observations"),
        (lambda obs, *_: obs, "task_shape", "not ["),
        (lambda obs, *_: obs[0], "task_shape", "returned [2] for observations"),
        (lambda obs, *_: obs[:, 0].square(), "task_shape", "returned [2, 2] for observations [2, "),
        (lambda obs, *_: obs[..., 0] * len(obs), "task_shape", "other values for the same steps"),
        (lambda obs, *_: obs @ torch.ones(3), "task_fails", "reward_fn raised RuntimeError"),
    ],
)
def test_functions_that_batches_do_not_fit(function: Any, code: str, text: str) -> None:
    assert text in only(check(reward_fn=function), code).what


def test_two_environments_made_alike_may_differ() -> None:
    what = only(check(envs.InstancesDiffer), "instances_differ").what
    assert what.startswith("in another environment made alike: step 1 returned obs")


def test_what_is_registered_as_nondeterministic_is_no_error() -> None:
    gym.register("Noisy-v0", envs.NoisyStep, max_episode_steps=50, nondeterministic=True)
    report = check_env("Noisy-v0", num_episodes=1)
    assert report.codes == ["step_not_deterministic"]
    assert report.num_errors == 0


def test_every_environment_of_an_id_is_closed() -> None:
    made, closed = [], []

    class Closes(envs.Sound):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def close(self) -> None:
            closed.append(self)

    gym.register("Closes-v0", Closes, max_episode_steps=envs.LENGTH)
    check_env("Closes-v0", num_episodes=1)
    assert len(made) >= 3  # recording, another one, Gymnasium's checker
    assert set(made) == set(closed)


def test_what_cannot_be_closed_is_reported_by_gymnasium_s_checker() -> None:
    gym.register("CloseRaises-v0", envs.CloseRaises, max_episode_steps=envs.LENGTH)
    report = check_env("CloseRaises-v0", num_episodes=1)
    assert "cannot close" in only(report, "gymnasium_check").what
