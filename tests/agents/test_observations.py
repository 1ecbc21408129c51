"""Observations in parts are learned from as the one vector that they make."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from mbrl_agents import PETS
from mbrl_bilevel.errors import EnvError
from mbrl_envs import register_task
from mbrl_envs.tasks import base
from tests.agents.small import small_pets
from tests.experiments.check_env.environments import InParts, PartIsImage, Sound, limited


def test_an_environment_in_parts_is_learned_as_if_it_were_in_one() -> None:
    in_one, in_parts = (small_pets(limited(cls)).learn(40) for cls in (Sound, InParts))
    for name, recorded in in_one.buffer.state_dict()["arrays"].items():
        assert np.array_equal(recorded, in_parts.buffer.state_dict()["arrays"][name]), name
    obs, _ = in_parts.env.reset(seed=1)
    assert obs.shape == (2,)
    first, second = (agent.predict(obs, deterministic=True)[0] for agent in (in_one, in_parts))
    assert np.array_equal(first, second)


def test_its_task_is_used_and_it_is_made_again_when_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_TASKS", dict(base._TASKS))
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    monkeypatch.setattr(gym, "registry", gym.envs.registration.registry)
    gym.register("InParts-v0", InParts, max_episode_steps=50)
    register_task("InParts-v0", reward_fn=lambda *args: -args[2][..., 0].square())
    agent = small_pets("InParts-v0").learn(20)
    assert agent.reward_fn is not None
    agent.save(tmp_path / "agent")
    loaded = PETS.load(tmp_path / "agent")
    assert loaded.reward_fn is not None
    assert loaded.env.observation_space == agent.env.observation_space


def test_an_image_among_the_parts_is_refused() -> None:
    with pytest.raises(EnvError, match=r"observation\['\w+'\] of PartIsImage is an image"):
        small_pets(limited(PartIsImage))
