"""What every environment of `mbrl_envs` has to satisfy."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import mbrl_envs

SECTIONS = {
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Arguments",
    "Version History",
}

pytestmark = [
    # Positions and velocities have no natural bound, of which Gymnasium warns.
    pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity"),
    # GaussianToy's actions are predictions in the units of their target, as Pendulum-v1's are N m.
    pytest.mark.filterwarnings("ignore:.*recommend .*symmetric and normalized"),
]
every_environment = pytest.mark.parametrize("env_id", mbrl_envs.ENVIRONMENTS)


@every_environment
def test_gymnasium_finds_nothing_wrong(env_id: str) -> None:
    check_env(gym.make(f"mbrl_envs:{env_id}", disable_env_checker=True).unwrapped)


@every_environment
def test_stable_baselines3_finds_nothing_wrong(env_id: str) -> None:
    check_env_sb3(gym.make(f"mbrl_envs:{env_id}"))


@every_environment
def test_a_seed_fixes_what_happens(env_id: str) -> None:
    def steps(seed: int) -> list[tuple[Any, ...]]:
        env = gym.make(f"mbrl_envs:{env_id}")
        env.action_space.seed(seed)
        obs, _ = env.reset(seed=seed)
        seen: list[tuple[Any, ...]] = [(np.asarray(obs).tolist(),)]
        for _ in range(30):
            obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            seen.append((np.asarray(obs).tolist(), reward, terminated, truncated))
            if terminated or truncated:
                obs, _ = env.reset()
                seen.append((np.asarray(obs).tolist(),))
        return seen

    assert steps(3) == steps(3)
    assert steps(3) != steps(4)


@every_environment
def test_the_docstring_has_gymnasiums_sections(env_id: str) -> None:
    doc = type(gym.make(f"mbrl_envs:{env_id}").unwrapped).__doc__ or ""
    sections = {line.strip()[3:] for line in doc.splitlines() if line.strip().startswith("## ")}
    assert sections >= SECTIONS


@pytest.mark.parametrize("env_id", mbrl_envs.VECTOR_ENTRY_POINTS)
def test_a_seed_fixes_what_happens_in_the_batched_version(env_id: str) -> None:
    def steps(seed: int) -> list[list[Any]]:
        envs = gym.make_vec(
            f"mbrl_envs:{env_id}", num_envs=5, vectorization_mode="vector_entry_point"
        )
        envs.action_space.seed(seed)
        seen = [envs.reset(seed=seed)[0].tolist()]
        for _ in range(3):
            obs, rewards, *_ = envs.step(envs.action_space.sample())
            seen += [obs.tolist(), rewards.tolist()]
        return seen

    assert steps(3) == steps(3)
    assert steps(3) != steps(4)


@pytest.mark.parametrize("env_id", mbrl_envs.VECTOR_ENTRY_POINTS)
def test_the_batched_version_is_shaped_like_gymnasiums_own(env_id: str) -> None:
    """Spaces, dtypes and infos of `SyncVectorEnv` with the same autoreset mode."""
    batched = gym.make_vec(f"mbrl_envs:{env_id}", num_envs=3)
    plain = gym.make_vec(
        f"mbrl_envs:{env_id}",
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    assert batched.metadata["autoreset_mode"] == plain.metadata["autoreset_mode"]
    assert batched.observation_space == plain.observation_space
    assert batched.action_space == plain.action_space
    results = []
    for envs in (batched, plain):
        envs.reset(seed=0)
        envs.action_space.seed(0)
        obs, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert obs in envs.observation_space
        assert terminated.all()
        assert not truncated.any()
        final_obs = np.stack(list(infos["final_obs"]))
        results.append(shapes([obs, rewards, terminated, truncated, final_obs]))
        results[-1] += shapes([infos["_final_obs"], infos["_final_info"]])
        info = infos["final_info"]
        results[-1] += [(key, *shapes([info[key]])[0]) for key in sorted(info)]
    assert results[0] == results[1]


def shapes(arrays: list[Any]) -> list[tuple[Any, ...]]:
    return [(array.shape, array.dtype) for array in arrays]
