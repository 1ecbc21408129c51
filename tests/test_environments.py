"""Environments are made, or the error says what is wrong with the request."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from mbrl_bilevel.environments import env_name, make_env
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
