"""Environments are made, or the error says what is wrong with the request."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from mbrl_bilevel.environments import env_name, flatten_observations, full_env_id, make_env
from mbrl_bilevel.errors import ConfigError, EnvError

TOY_MODULE = """
import gymnasium as gym

class Toy(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, size=1):
        if size < 0:
            raise ValueError("size must not be negative")
        self.size = size

gym.register(id="{name}-v0", entry_point=Toy)
gym.register(id="{name}Gone-v0", entry_point="module_that_is_gone:Toy")
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module that registers `<name>-v0`."""
    name = "toy_of_the_tests"
    (tmp_path / f"{name}.py").write_text(TOY_MODULE.format(name=name))
    (tmp_path / "broken_of_the_tests.py").write_text("import module_that_is_gone\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    return name


def test_a_registered_environment_with_its_arguments() -> None:
    with make_env("Pendulum-v1", {"g": 2.5}, render_mode="rgb_array") as env:
        assert getattr(env.unwrapped, "g") == 2.5  # noqa: B009 (gym.Env declares no g)
        assert env.render_mode == "rgb_array"
        assert env_name(env) == "Pendulum-v1"


def test_an_argument_mapping_is_not_changed() -> None:
    kwargs = {"g": 2.5}
    make_env("Pendulum-v1", kwargs, render_mode="rgb_array").close()
    assert kwargs == {"g": 2.5}


def test_a_module_that_registers_its_environments(toy: str) -> None:
    env = make_env(f"{toy}:{toy}-v0", {"size": 3})
    assert getattr(env.unwrapped, "size") == 3  # noqa: B009


def test_an_environment_made_by_hand_goes_by_its_class() -> None:
    class ByHand(gym.Env[Any, Any]):
        pass

    assert env_name(ByHand()) == "ByHand"


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Pendulm-v1", r"env\.id='Pendulm-v1' is not known: .*Did you mean: `Pendulum`"),
        ("Pendulum-v99", r"env\.id='Pendulum-v99' is not known: .*`v1`"),
        ("nowhere/Pendulum-v1", "env.id='nowhere/Pendulum-v1' is not known: .*nowhere"),
        ("no such id", "env.id='no such id' cannot be made: Malformed"),
        ("gone_module:Toy-v0", "env.id='gone_module:Toy-v0': no module 'gone_module'"),
        ("gone_module.inner:Toy-v0", "no module 'gone_module.inner' can be imported"),
        ("gymnasium.gone:Toy-v0", "no module 'gymnasium.gone' can be imported"),
    ],
)
def test_an_id_that_is_not_known(env_id: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_env(env_id)


def test_an_argument_that_the_environment_does_not_take() -> None:
    with pytest.raises(ConfigError, match=r"env.kwargs=\{'gravity': 1\} do not fit 'Pendulum-v1'"):
        make_env("Pendulum-v1", {"gravity": 1})


def test_an_environment_that_fails_while_it_is_made(toy: str) -> None:
    with pytest.raises(EnvError, match="failed while it was made: size must not be negative"):
        make_env(f"{toy}:{toy}-v0", {"size": -1})


@pytest.mark.parametrize("env_id", ["{toy}:{toy}Gone-v0", "broken_of_the_tests:Toy-v0"])
def test_a_module_that_itself_misses_another(toy: str, env_id: str) -> None:
    with pytest.raises(EnvError, match=r"needs a module that is missing: .*'module_that_is_gone'"):
        make_env(env_id.format(toy=toy))


class InParts(gym.Env[Any, Any]):
    """Observes whatever the space holds."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space = space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}


NUMBERS = spaces.Box(-1.0, 1.0, (2,), np.float32)
IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (spaces.Dict({"a": NUMBERS, "b": spaces.Discrete(3)}), 5),
        (spaces.Tuple([NUMBERS, NUMBERS]), 4),
        (spaces.Dict({"a": spaces.Dict({"b": NUMBERS}), "c": spaces.MultiBinary(4)}), 6),
    ],
)
def test_observations_in_parts_become_one_vector(space: gym.Space[Any], size: int) -> None:
    env = flatten_observations(InParts(space))
    obs, _ = env.reset(seed=0)
    assert obs.shape == env.observation_space.shape == (size,)
    assert np.array_equal(obs, spaces.flatten(space, InParts(space).reset(seed=0)[0]))


@pytest.mark.parametrize("space", [NUMBERS, IMAGE, spaces.Discrete(3)])
def test_any_other_observation_stays_as_it_is(space: gym.Space[Any]) -> None:
    env = InParts(space)
    assert flatten_observations(env) is env


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Dict({"camera": IMAGE}), r"observation\['camera'\] of InParts is an image"),
        (spaces.Tuple([NUMBERS, IMAGE]), r"observation\[1\] of InParts is an image"),
        (spaces.Dict({"a": spaces.Sequence(NUMBERS)}), r"\['a'\] .* has no fixed size; allowed"),
    ],
)
def test_what_cannot_become_a_vector_is_named(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(EnvError, match=message):
        flatten_observations(InParts(space))


def test_an_environment_is_made_with_its_parts_flattened() -> None:
    env = make_env("Blackjack-v1")
    assert isinstance(env.observation_space, spaces.Box)
    assert env.reset(seed=0)[0].shape == env.observation_space.shape


def test_the_id_of_a_class_names_the_module_that_it_is_defined_in(
    toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_env(f"{toy}:{toy}-v0")
    assert env.spec is not None
    assert full_env_id(env.spec) == f"{toy}:{toy}-v0"
    by_name = gym.spec("Pendulum-v1")
    assert full_env_id(by_name) == "Pendulum-v1"
    monkeypatch.setattr(type(env.unwrapped), "__module__", "__main__")
    assert full_env_id(env.spec) == f"{toy}-v0"
