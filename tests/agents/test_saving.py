"""Agents on disk: what comes back is what was saved, and goes on as if nothing had happened."""

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents import PETS
from mbrl_bilevel.errors import CheckpointError, ConfigError
from mbrl_bilevel.runs import capture_rng_state, load_checkpoint, save_checkpoint
from tests.agents.small import (
    SMALL_MODEL,
    SMALL_PLANNER,
    SaveAt,
    SpacesEnv,
    assert_identical,
    small_pets,
)

OBS = {"Pendulum-v1": np.array([0.8, 0.6, -0.5]), "CartPole-v1": np.array([0.1, -0.2, 0.05, 0.3])}
CEM = {"name": "cem", "horizon": 4, "population_size": 8, "num_iterations": 2, "num_elites": 3}
SHOOTING = {"name": "random_shooting", "horizon": 4, "population_size": 8}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Pendulum agent in mid-episode."""
    path = tmp_path_factory.mktemp("saved") / "agent"
    small_pets().learn(25).save(path)
    return path


def predictions(agent: PETS) -> list[Any]:
    """Deterministic and other actions, one after the other, handing on the state."""
    obs = OBS["Pendulum-v1"] if agent.model.obs_size == 3 else OBS["CartPole-v1"]
    found: list[Any] = []
    state = None
    for deterministic in (True, False, True, False):
        action, state = agent.predict(obs, state, deterministic=deterministic)
        found.append((np.asarray(action), vars(state)))
    return found


@pytest.mark.parametrize(
    ("env_id", "functions"),
    [("CartPole-v1", {}), ("Pendulum-v1", {}), ("Pendulum-v1", {"reward_fn": None})],
    ids=["learned", "exact", "half"],
)
@pytest.mark.parametrize("hand_in", ["nothing", "env", "id"])
def test_a_loaded_agent_predicts_and_is_what_was_saved(
    tmp_path: Path, env_id: str, functions: dict[str, Any], hand_in: str
) -> None:
    agent = small_pets(env_id, seed=5, objective="nll", **functions).learn(38)
    agent.save(tmp_path / "agent")
    env = {"nothing": None, "env": gym.make(env_id), "id": env_id}[hand_in]
    loaded = PETS.load(tmp_path / "agent", env=env, **functions)
    assert_identical(loaded.state_dict(), agent.state_dict())
    assert loaded.config == agent.config
    assert loaded.model_config == agent.model_config
    assert loaded.objective_config == agent.objective_config
    assert loaded.seed == agent.seed == 5
    assert_identical(predictions(loaded), predictions(agent))


@pytest.mark.parametrize("step", [10, 37, 52])
@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [
        ("CartPole-v1", {"objective": "bilevel"}),
        ("CartPole-v1", {"objective": "mse", "planner": CEM}),
        ("CartPole-v1", {"objective": "nll", "planner": SHOOTING, "propagation": "tsinf"}),
        ("Pendulum-v1", {"objective": "bilevel"}),
        ("Pendulum-v1", {"objective": "beta_nll", "planner": CEM, "propagation": "mean"}),
        ("mbrl_envs:CartPoleSwingUp-v0", {"objective": "mse"}),
    ],
)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(
    tmp_path: Path, env_id: str, arguments: dict[str, Any], step: int
) -> None:
    """Before the first fit, between two fits and between two others, in mid-episode."""
    path = tmp_path / "agent"
    save_at = SaveAt(step, path)
    uninterrupted = small_pets(env_id, **arguments).learn(60, save_at)
    assert save_at.in_episode
    assert uninterrupted.num_fits == 3

    resumed = PETS.load(path)
    assert resumed.num_timesteps == step
    resumed.learn(60 - step)
    assert_identical(resumed.state_dict(), uninterrupted.state_dict())

    restored = small_pets(env_id, **arguments)
    restored.restore(path)
    restored.learn(60 - step)
    assert_identical(restored.state_dict(), uninterrupted.state_dict())


def test_what_makes_up_the_state() -> None:
    """The comparison of states above means what it says."""
    agent = small_pets("CartPole-v1").learn(40)
    state = agent.state_dict()
    assert set(state["model"]) >= {
        "elite_indices",
        "network.weights.0",
        "input_normalizer.mean",
        "target_normalizer.std",
        "largest_log_var",
        "termination.network.0.weight",
        "termination.has_terminations",
    }
    assert state["trainer"]["optimizer"]["state"][0]["exp_avg"].abs().sum() > 0
    assert state["trainer"]["termination_optimizer"]["state"][0]["exp_avg"].abs().sum() > 0
    assert len(state["buffer"]["arrays"]["rewards"]) == 40
    assert set(state["planner_state"]) == {"center", "elites", "step"}
    assert set(state) == {
        "num_timesteps",
        "num_fits",
        "model",
        "trainer",
        "buffer",
        "interaction",
        "generator",
        "planner_state",
    }


def test_an_agent_can_be_restored_in_place_after_learning_something_else(tmp_path: Path) -> None:
    agent = small_pets("CartPole-v1").learn(33)
    agent.save(tmp_path / "agent")
    expected = PETS.load(tmp_path / "agent").learn(30).state_dict()
    used = small_pets("CartPole-v1").learn(47)
    used.restore(tmp_path / "agent")
    assert_identical(used.learn(30).state_dict(), expected)


def test_restore_brings_back_the_global_generators(tmp_path: Path) -> None:
    agent = small_pets()
    agent.save(tmp_path / "agent")
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002 - the point
    agent.restore(tmp_path / "agent")
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


def test_loading_leaves_the_global_generators_alone(saved: Path) -> None:
    before = capture_rng_state()
    PETS.load(saved)
    assert_identical(capture_rng_state(), before)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_device_is_chosen_anew(saved: Path, device: Any) -> None:
    agent = PETS.load(saved, device=device)
    expected = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
    assert agent.device.type == expected
    assert all(p.device.type == expected for p in agent.model.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(saved: Path) -> None:
    with pytest.raises(ConfigError, match="device: 'cuda', but torch finds no CUDA device"):
        PETS.load(saved, device="cuda")


def test_an_unknown_device_is_refused(saved: Path) -> None:
    device: Any = "tpu"
    with pytest.raises(ConfigError, match="device: 'tpu'; allowed: 'auto', 'cpu', 'cuda'"):
        PETS.load(saved, device=device)


# the environment


def test_arguments_of_the_environment_are_kept(tmp_path: Path) -> None:
    env = gym.make("Pendulum-v1", g=2.0, max_episode_steps=12)
    small_pets(env).learn(5).save(tmp_path / "agent")
    spec = PETS.load(tmp_path / "agent").env.spec
    assert spec is not None
    assert spec.kwargs["g"] == 2.0
    assert spec.max_episode_steps == 12


def test_the_module_that_registers_the_environment_is_kept(tmp_path: Path) -> None:
    small_pets("mbrl_envs:CartPoleSwingUp-v0").save(tmp_path / "agent")
    spec = PETS.load(tmp_path / "agent").env.spec
    assert spec is not None
    assert spec.id == "CartPoleSwingUp-v0"


def by_hand() -> gym.Env[Any, Any]:
    return SpacesEnv(spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(2))


def wrapped() -> gym.Env[Any, Any]:
    return gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), np.float32(-1), np.float32(1))


@pytest.mark.parametrize("make", [by_hand, wrapped])
def test_an_environment_that_no_id_makes_has_to_be_handed_in(tmp_path: Path, make: Any) -> None:
    agent = small_pets(make()).learn(22)
    agent.save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"made or wrapped by hand .* hand it in as env="):
        PETS.load(tmp_path / "agent")
    loaded = PETS.load(tmp_path / "agent", env=make())
    obs = np.full(agent.model.obs_size, 0.1)
    assert_identical(
        loaded.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0]
    )


def test_wrappers_that_only_watch_need_not_be_handed_in(tmp_path: Path) -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("Pendulum-v1"))
    agent = small_pets(env).learn(22)
    agent.save(tmp_path / "agent")
    assert_identical(PETS.load(tmp_path / "agent").state_dict(), agent.state_dict())


def test_an_environment_that_does_not_repeat_itself_warns(tmp_path: Path) -> None:
    small_pets("Pendulum-v1").learn(30).save(tmp_path / "agent")
    with pytest.warns(UserWarning, match="Pendulum-v1 does not repeat itself"):
        agent = PETS.load(tmp_path / "agent", env=gym.make("Pendulum-v1", g=5.0))
    agent.learn(10)
    assert agent.num_timesteps == 40
    assert agent.interaction.episode == 1


# what does not fit


def test_an_agent_of_another_environment_is_refused(tmp_path: Path) -> None:
    small_pets("CartPole-v1").learn(5).save(tmp_path / "agent")
    with pytest.raises(
        CheckpointError, match=r"agent does not fit the agent: [\s\S]*size mismatch"
    ):
        PETS.load(tmp_path / "agent", env="MountainCar-v0")


def test_other_functions_are_refused(tmp_path: Path) -> None:
    small_pets().save(tmp_path / "exact")
    message = (
        "exact: the agent was saved with an exact reward and an exact termination, but is loaded "
        "with a learned reward and an exact termination; hand in the same reward_fn"
    )
    with pytest.raises(CheckpointError, match=message):
        PETS.load(tmp_path / "exact", reward_fn=None)
    with pytest.raises(CheckpointError, match="with an exact reward and a learned termination;"):
        PETS.load(tmp_path / "exact", termination_fn=None)

    small_pets("CartPole-v1").save(tmp_path / "learned")

    def never(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return (next_obs[..., 0] > 9) & (obs[..., 0] > 9) & (action > 9)

    with pytest.raises(CheckpointError, match="with a learned reward and a learned termination,"):
        PETS.load(tmp_path / "learned", termination_fn=never)


def test_functions_of_ones_own_have_to_be_handed_in_again(tmp_path: Path) -> None:
    def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return torch.ones_like(next_obs[..., 0]) + 0 * obs[..., 0] + 0 * action

    agent = small_pets("CartPole-v1", reward_fn=reward_fn).learn(25)
    agent.save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="saved with an exact reward and a learned term"):
        PETS.load(tmp_path / "agent")
    loaded = PETS.load(tmp_path / "agent", reward_fn=reward_fn)
    assert_identical(predictions(loaded), predictions(agent))


@pytest.mark.parametrize(
    ("change", "section"),
    [
        ({"planner": {**SMALL_PLANNER, "horizon": 5}}, "agent"),
        ({"model": {**SMALL_MODEL, "hidden_sizes": [9]}}, "model"),
        ({"objective": "nll"}, "objective"),
        ({"seed": 1}, "seed"),
    ],
)
def test_other_settings_are_refused_in_place(
    saved: Path, change: dict[str, Any], section: str
) -> None:
    agent = small_pets(**change)
    before = agent.state_dict()["model"]["network.weights.0"].clone()
    with pytest.raises(CheckpointError, match=f"the agent was saved with {section}="):
        agent.restore(saved)
    assert torch.equal(agent.state_dict()["model"]["network.weights.0"], before)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nowhere"):
        PETS.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensors.safetensors", r"tensors.safetensors is truncated or corrupt"),
        ("state.json", r"state.json is not valid JSON"),
    ],
)
def test_a_truncated_checkpoint_is_refused(
    saved: Path, tmp_path: Path, name: str, message: str
) -> None:
    folder = tmp_path / "agent"
    shutil.copytree(saved, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=message):
        PETS.load(folder)
    with pytest.raises(CheckpointError, match=message):
        small_pets().restore(folder)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", {"step": 3})
    message = "other is not an agent's checkpoint: it has no 'agent'"
    with pytest.raises(CheckpointError, match=message):
        PETS.load(tmp_path / "other")
    with pytest.raises(CheckpointError, match=message):
        small_pets().restore(tmp_path / "other")


def test_settings_that_came_after_a_checkpoint_have_their_defaults(
    saved: Path, tmp_path: Path
) -> None:
    content = load_checkpoint(saved)
    del content["agent"]["exploration_noise"], content["model"]["weight_decay"]
    save_checkpoint(tmp_path / "older", content)
    assert_identical(PETS.load(tmp_path / "older").state_dict(), PETS.load(saved).state_dict())


def test_settings_of_a_later_version_are_refused(saved: Path, tmp_path: Path) -> None:
    content = load_checkpoint(saved)
    content["model"]["not_yet_invented"] = 1
    save_checkpoint(tmp_path / "newer", content)
    agent = small_pets()
    with pytest.raises(CheckpointError, match=r"not known here.*not_yet_invented"):
        agent.restore(tmp_path / "newer")
