"""`LearnedVectorEnv` is like Gymnasium's own vector environments in the mode `SAME_STEP`."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from mbrl_agents.imagination import LearnedVectorEnv
from tests.agents.imagination.known import (
    PENDULUM,
    Counting,
    PendulumEnv,
    TruePendulum,
    counting_spaces,
)
from tests.agents.small import small_pets

NEVER = 1e9
START = np.array([np.cos(2.5), np.sin(2.5), 0.7], np.float32)


def make_pendulums(length: int, max_spin: float) -> tuple[LearnedVectorEnv, SyncVectorEnv]:
    imagined = LearnedVectorEnv(
        TruePendulum(max_spin),
        START[None],
        num_envs=4,
        rollout_length=length,
        observation_space=PENDULUM.observation_space,
        action_space=PENDULUM.action_space,
    )

    def make() -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(PendulumEnv(START, max_spin), length)

    return imagined, SyncVectorEnv([make] * 4, autoreset_mode=AutoresetMode.SAME_STEP)


def test_steps_are_those_of_the_environments_side_by_side() -> None:
    imagined, real = make_pendulums(9, 3.0)
    for name in (
        "observation_space",
        "action_space",
        "single_observation_space",
        "single_action_space",
        "num_envs",
    ):
        assert getattr(imagined, name) == getattr(real, name), name
    assert imagined.metadata["autoreset_mode"] == real.metadata["autoreset_mode"]
    assert np.array_equal(imagined.reset(seed=0)[0], real.reset(seed=0)[0])
    rng = np.random.default_rng(0)
    ways_to_end = set()
    for _ in range(40):
        action = rng.uniform(-2.0, 2.0, (4, 1)).astype(np.float32)
        *arrays, infos = imagined.step(action)
        *real_arrays, real_infos = real.step(action)
        for array, real_array in zip(arrays, real_arrays, strict=True):
            assert np.array_equal(array, real_array)
        ways_to_end |= set(zip(arrays[2].tolist(), arrays[3].tolist(), strict=True))
        assert infos.keys() == real_infos.keys() - {"TimeLimit.truncated", "_TimeLimit.truncated"}
        if infos:
            for final, real_final in zip(infos["final_obs"], real_infos["final_obs"], strict=True):
                assert (final is None) == (real_final is None)
                assert final is None or np.array_equal(final, real_final)
            assert np.array_equal(infos["_final_obs"], real_infos["_final_obs"])
            assert np.array_equal(infos["_final_info"], real_infos["_final_info"])
            assert infos["final_info"] == {}
    assert ways_to_end >= {(False, False), (True, False), (False, True)}


def test_gymnasiums_wrappers_count_its_episodes() -> None:
    env = RecordEpisodeStatistics(
        LearnedVectorEnv(
            Counting(), np.array([[0.0, NEVER]]), num_envs=3, rollout_length=4, **counting_spaces()
        )
    )
    env.reset(seed=0)
    for _ in range(8):
        *_, infos = env.step(np.full((3, 1), 0.5, np.float32))
    assert infos["episode"]["l"].tolist() == [4] * 3
    assert infos["episode"]["r"].tolist() == [2.0] * 3
    assert env.episode_count == 6
    env.close()


def test_a_seed_repeats_everything_and_options_are_refused() -> None:
    starts = np.array([[k, NEVER] for k in range(50)])
    env = LearnedVectorEnv(
        Counting(), starts, num_envs=5, rollout_length=4, **counting_spaces(), seed=1
    )
    first, infos = env.reset(seed=3)
    assert infos == {}
    assert not np.array_equal(first, env.reset()[0])
    assert np.array_equal(first, env.reset(seed=3, options={})[0])
    with pytest.raises(ValueError, match=r"'reset_mask'.*; allowed: none"):
        env.reset(options={"reset_mask": np.ones(5, np.bool_)})


def test_an_agents_model_with_discrete_actions() -> None:
    env = LearnedVectorEnv.from_agent(
        small_pets("CartPole-v1").learn(25), num_envs=4, rollout_length=3
    )
    assert env.action_space == spaces.MultiDiscrete([2] * 4)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(5):
        obs, rewards, _, _, _ = env.step(env.action_space.sample())
        assert obs.shape == (4, 4)
        assert obs.dtype == np.float32
        assert rewards.tolist() == [1.0] * 4
    env.set_rollout_length(1)
    *_, truncated, infos = env.step(env.action_space.sample())
    assert truncated.all()
    assert infos["_final_obs"].all()
