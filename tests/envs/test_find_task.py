"""Which environments a registered task is used for."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.registration import WrapperSpec
from stable_baselines3.common.monitor import Monitor
from torch import Tensor

import mbrl_envs  # noqa: F401 (registers)
from mbrl_bilevel.errors import EnvError
from mbrl_envs.tasks import base, find_task, list_tasks, register_task
from mbrl_envs.tasks.pendulum import reward_fn, termination_fn

Env = gym.Env[Any, Any]
WITH_POSITIONS = {"exclude_current_positions_from_observation": False}
HALF = (np.float32(-0.5), np.float32(0.5))


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register what it likes without others seeing it."""
    monkeypatch.setattr(base, "_TASKS", dict(base._TASKS))
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    monkeypatch.setattr(gym, "registry", gym.envs.registration.registry)


@pytest.fixture
def pendulum() -> Iterator[Env]:
    env = gym.make("Pendulum-v1", render_mode="rgb_array")
    yield env
    env.close()


def other_reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    return reward_fn(obs, action, next_obs)


class MyWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Not known to be harmless."""


class MyMonitor(Monitor):
    """Not known to be harmless, as a subclass may do anything."""


@pytest.mark.parametrize(
    "env_id",
    [
        "Pendulum-v1",
        "InvertedPendulum-v5",
        "Pusher-v5",
        "Reacher-v5",
        "mbrl_envs:CartPoleSwingUp-v0",
        "mbrl_envs:ContinuousCartPole-v0",
    ],
)
def test_built_in_tasks_are_found(env_id: str) -> None:
    task = find_task(gym.make(env_id))
    assert task is not None
    assert task.env_id == env_id.removeprefix("mbrl_envs:")
    assert callable(task.reward_fn)
    assert callable(task.termination_fn)


def test_other_environments_have_none(caplog: pytest.LogCaptureFixture) -> None:
    assert find_task(gym.make("CartPole-v1")) is None
    assert find_task(PendulumEnv()) is None
    assert not caplog.records


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: env,
        lambda env: env.env,
        lambda env: env.unwrapped,
        lambda env: wrappers.TimeLimit(env, 50),
        wrappers.Autoreset,
        wrappers.OrderEnforcing,
        wrappers.PassiveEnvChecker,
        wrappers.RecordEpisodeStatistics,
        wrappers.RenderCollection,
        wrappers.HumanRendering,
        lambda env: wrappers.AddWhiteNoise(env, probability_of_noise_per_pixel=0.5),
        lambda env: wrappers.ObstructView(env, 0.5, 2),
        Monitor,
        lambda env: Monitor(wrappers.RecordEpisodeStatistics(wrappers.Autoreset(env))),
    ],
)
def test_harmless_wrappers_keep_the_task(wrap: Callable[[Env], Env], pendulum: Env) -> None:
    assert find_task(wrap(pendulum)) is not None


def test_recording_keeps_the_task(
    pendulum: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RecordVideo checks that it could write a video, which this test does not need.
    monkeypatch.setitem(sys.modules, "moviepy", ModuleType("moviepy"))
    env = wrappers.RecordVideo(pendulum, str(tmp_path / "videos"), episode_trigger=lambda _: False)
    assert find_task(env) is not None


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda env: wrappers.RescaleAction(env, *HALF), "gymnasium.RescaleAction"),
        (wrappers.ClipAction, "gymnasium.ClipAction"),
        (wrappers.NormalizeObservation, "gymnasium.NormalizeObservation"),
        (lambda env: wrappers.FlattenObservation(env), "gymnasium.FlattenObservation"),
        (lambda env: wrappers.TransformReward(env, float), "gymnasium.TransformReward"),
        (wrappers.NormalizeReward, "gymnasium.NormalizeReward"),
        (lambda env: wrappers.StickyAction(env, 0.5), "gymnasium.StickyAction"),
        (MyWrapper, "MyWrapper"),
        (MyMonitor, "MyMonitor"),
        (lambda env: Monitor(wrappers.OrderEnforcing(MyWrapper(env))), "MyWrapper"),
    ],
)
def test_other_wrappers_lose_the_task(
    wrap: Callable[[Env], Env], name: str, pendulum: Env, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_task(wrap(pendulum)) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "reward and termination of Pendulum-v1 are not used" in record.message
    assert name in record.message


class InParts(PendulumEnv):
    """Its observation in two parts; nothing here is stepped."""

    def __init__(self) -> None:
        super().__init__()
        part = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space: gym.Space[Any] = gym.spaces.Dict({"a": part, "b": part})


def test_one_vector_of_several_observations_keeps_the_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gym.register("InParts-v0", InParts, max_episode_steps=5)
    register_task("InParts-v0", reward_fn=reward_fn)
    env = gym.make("InParts-v0")
    assert find_task(wrappers.FlattenObservation(env)) is not None
    assert find_task(wrappers.FlattenObservation(MyWrapper(env))) is None
    assert "MyWrapper" in caplog.text
    assert "FlattenObservation" not in caplog.text


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("Pendulum-v1", {"g": 9.81}),
        ("Pendulum-v1", {"render_mode": "rgb_array", "max_episode_steps": 10}),
        ("InvertedPendulum-v5", {"reset_noise_scale": 0.1, "frame_skip": 4, "width": 64}),
        ("Reacher-v5", {"frame_skip": 4}),
        ("Hopper-v5", {"ctrl_cost_weight": 0.5, "healthy_reward": 2.0}),
        ("Ant-v5", {"include_cfrc_ext_in_observation": False, "frame_skip": 10}),
        ("Ant-v5", {"exclude_current_positions_from_observation": False, "main_body": 2}),
    ],
)
def test_arguments_that_do_not_matter_keep_the_task(env_id: str, kwargs: dict[str, Any]) -> None:
    assert find_task(gym.make(env_id, **kwargs)) is not None


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("Reacher-v5", {"reward_dist_weight": 2.0}),
        ("Pusher-v5", {"xml_file": "pusher.xml"}),
        ("Hopper-v5", {"healthy_z_range": (0.5, 2.0)}),
        ("Hopper-v5", {**WITH_POSITIONS, "ctrl_cost_weight": 0.5}),
        ("Walker2d-v5", {"terminate_when_unhealthy": False}),
        ("Ant-v5", {"healthy_z_range": (0.1, 2.0)}),
    ],
)
def test_arguments_that_matter_lose_the_built_in_task(
    env_id: str, kwargs: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert find_task(gym.make(env_id, **kwargs)) is None
    assert f"{env_id} are not used: the environment was made with {list(kwargs)[-1]}" in caplog.text


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5"])
def test_the_task_with_positions_is_found_by_the_argument(env_id: str) -> None:
    plain = find_task(gym.make(env_id))
    with_positions = find_task(gym.make(env_id, **WITH_POSITIONS))
    assert plain is not None
    assert plain.reward_fn is None
    assert with_positions is not None
    assert with_positions.reward_fn is not None
    assert with_positions.kwargs == WITH_POSITIONS


def test_a_task_that_does_not_fit_gives_way_to_one_that_asks_for_less() -> None:
    env = gym.make("HalfCheetah-v5", **WITH_POSITIONS, ctrl_cost_weight=0.5)
    task = find_task(env)
    assert task is not None
    assert task.reward_fn is None
    assert task.termination_fn is not None


def make_pendulum(**kwargs: Any) -> Env:
    """A pendulum with arguments whose meaning nobody but its author knows."""
    env = PendulumEnv()
    return MyWrapper(env) if kwargs.get("wrapped") else env


def test_arguments_that_may_matter_lose_the_task(caplog: pytest.LogCaptureFixture) -> None:
    gym.register("My-v0", make_pendulum, kwargs={"goal": np.zeros(2)})
    register_task("My-v0", reward_fn=reward_fn)
    assert find_task(gym.make("My-v0")) is not None
    assert find_task(gym.make("My-v0", goal=np.zeros(2))) is not None
    assert find_task(gym.make("My-v0", goal=np.ones(2))) is None
    assert "My-v0 are not used: the environment was made with goal" in caplog.text


def test_harmless_arguments_are_declared_with_the_task() -> None:
    gym.register("My-v0", make_pendulum)
    register_task("My-v0", reward_fn=reward_fn, harmless_kwargs=["goal"])
    assert find_task(gym.make("My-v0", goal=np.ones(2))) is not None


@pytest.mark.parametrize("plain_first", [True, False])
def test_tasks_for_certain_arguments_stand_beside_the_plain_one(
    plain_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def register_plain() -> None:
        register_task("My-v0", termination_fn=termination_fn)

    gym.register("My-v0", make_pendulum)
    if plain_first:
        register_plain()
    register_task("My-v0", reward_fn=reward_fn, kwargs={"goal": (1.0, 2.0)})
    register_task("My-v0", reward_fn=other_reward_fn, kwargs={"goal": (1.0, 2.0), "size": 3})
    if not plain_first:
        register_plain()

    def reward_with(**kwargs: Any) -> Any:
        task = find_task(gym.make("My-v0", **kwargs))
        return task.reward_fn if task is not None else "no task"

    assert reward_with() is None
    assert reward_with(goal=np.array([1.0, 2.0])) is reward_fn
    assert reward_with(goal=(1.0, 2.0), size=3) is other_reward_fn
    assert not caplog.records
    assert reward_with(goal=(1.0, 3.0)) == "no task"
    assert reward_with(size=3) == "no task"
    assert "was made with goal" in caplog.text
    assert "was made with size" in caplog.text
    listed = [task.kwargs for task in list_tasks() if task.env_id == "My-v0"]
    assert listed == [{}, {"goal": (1.0, 2.0)}, {"goal": (1.0, 2.0), "size": 3}]


def test_certain_arguments_have_one_task() -> None:
    register_task("My-v0", reward_fn=reward_fn, kwargs={"size": 3})
    register_task("My-v0", reward_fn=reward_fn, kwargs={"size": 3})
    register_task("My-v0", reward_fn=other_reward_fn, kwargs={"size": 4})
    with pytest.raises(EnvError, match="'My-v0' is registered already, and differs"):
        register_task("My-v0", reward_fn=other_reward_fn, kwargs={"size": 3})
    assert sum(task.env_id == "My-v0" for task in list_tasks()) == 2


def test_wrappers_inside_the_entry_point_belong_to_the_environment() -> None:
    gym.register("My-v0", make_pendulum, kwargs={"wrapped": True})
    register_task("My-v0", reward_fn=reward_fn)
    env = gym.make("My-v0")
    assert find_task(env) is not None
    assert find_task(MyWrapper(env)) is None


def test_registered_wrappers_belong_to_the_environment() -> None:
    rescale = wrappers.RescaleAction.wrapper_spec(min_action=HALF[0], max_action=HALF[1])
    gym.register("My-v0", make_pendulum, additional_wrappers=(rescale,))
    register_task("My-v0", reward_fn=reward_fn)
    env = gym.make("My-v0")
    assert find_task(env) is not None
    assert find_task(Monitor(env)) is not None
    assert find_task(wrappers.RescaleAction(env, *HALF)) is None
    assert find_task(env.unwrapped) is None


def test_a_registered_passive_wrapper_changes_nothing() -> None:
    statistics = WrapperSpec(
        "RecordEpisodeStatistics", "gymnasium.wrappers.common:RecordEpisodeStatistics", {}
    )
    gym.register("My-v0", make_pendulum, additional_wrappers=(statistics,))
    register_task("My-v0", reward_fn=reward_fn)
    assert find_task(gym.make("My-v0")) is not None


def test_namespace_is_part_of_the_id_and_module_is_not() -> None:
    gym.register("mine/My-v0", make_pendulum)
    gym.register("My-v0", make_pendulum)
    register_task("some.module:mine/My-v0", termination_fn=termination_fn)
    task = find_task(gym.make("mine/My-v0"))
    assert task is not None
    assert task.env_id == "mine/My-v0"
    assert task.reward_fn is None
    assert task.termination_fn is termination_fn
    assert find_task(gym.make("My-v0")) is None


def test_registering_the_same_again_does_nothing() -> None:
    register_task("My-v0", reward_fn=reward_fn, termination_fn=termination_fn)
    register_task("My-v0", reward_fn=reward_fn, termination_fn=termination_fn)


@pytest.mark.parametrize(
    "other",
    [
        {"reward_fn": other_reward_fn, "termination_fn": termination_fn},
        {"reward_fn": reward_fn},
        {"reward_fn": reward_fn, "termination_fn": termination_fn, "harmless_kwargs": ["g"]},
    ],
)
def test_an_id_has_one_task(other: dict[str, Any]) -> None:
    register_task("My-v0", reward_fn=reward_fn, termination_fn=termination_fn)
    with pytest.raises(EnvError, match="'My-v0' is registered already, and differs"):
        register_task("a_module:My-v0", **other)


@pytest.mark.parametrize("name", ["reward_fn", "termination_fn"])
def test_functions_must_be_callable(name: str) -> None:
    with pytest.raises(EnvError, match=f"'My-v0': {name} must be callable or None, got 'no' of"):
        register_task("My-v0", **{name: "no"})  # type: ignore[arg-type]


def test_a_task_must_know_something() -> None:
    with pytest.raises(EnvError, match="'My-v0': give reward_fn, termination_fn or both"):
        register_task("My-v0")
