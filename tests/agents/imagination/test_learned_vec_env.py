"""`LearnedVecEnv` is a `VecEnv` like any other, to wrappers and algorithms."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from mbrl_agents import PETS
from mbrl_agents.imagination import LearnedVecEnv
from mbrl_bilevel.errors import ConfigError, EnvError, MBRLError
from tests.agents.imagination.known import Counting, counting_spaces
from tests.agents.small import SpacesEnv, small_pets

NEVER = 1e9


def counting(
    *start_obs: list[float], dynamics: Counting | None = None, **arguments: Any
) -> LearnedVecEnv:
    settings = {"num_envs": 2, "rollout_length": 3, **counting_spaces(), **arguments}
    return LearnedVecEnv(dynamics or Counting(), np.array(start_obs), **settings)


def actions(value: float = 0.5, num_envs: int = 2) -> Any:
    return np.full((num_envs, 1), value, np.float32)


def test_spaces_are_those_of_the_environment_in_float32() -> None:
    env = counting([0.0, NEVER])
    assert env.observation_space == spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert env.action_space == Counting.action_space
    assert env.num_envs == 2
    huge = spaces.Box(-1e300, 1e300, (2,), np.float64)
    assert counting([0.0, 1.0], observation_space=huge).observation_space == env.observation_space


def test_infos_say_how_an_episode_ended() -> None:
    env = counting([0.0, NEVER], num_envs=3)
    env.reset()
    env.batch.obs = torch.tensor([[0.0, NEVER], [0.0, 3.0], [0.0, 2.0]])
    _, _, dones, infos = env.step(actions(num_envs=3))
    assert dones.tolist() == [False] * 3
    assert infos == [{"TimeLimit.truncated": False}] * 3
    _, _, dones, infos = env.step(actions(num_envs=3))
    assert dones.tolist() == [False, False, True]
    assert infos[2].pop("terminal_observation").tolist() == [2.0, 2.0]
    assert infos == [{"TimeLimit.truncated": False}] * 3
    obs, rewards, dones, infos = env.step(actions(num_envs=3))
    assert dones.tolist() == [True, True, False]
    assert infos[0]["TimeLimit.truncated"] is True
    assert infos[1]["TimeLimit.truncated"] is False  # it terminated as well
    assert infos[0]["terminal_observation"].tolist() == [3.0, NEVER]
    assert infos[1]["terminal_observation"].tolist() == [3.0, 3.0]
    assert obs.tolist() == [[0.0, NEVER]] * 2 + [[1.0, NEVER]]  # type: ignore[union-attr]
    assert rewards.tolist() == [0.5] * 3


def test_what_is_returned_may_be_written_into() -> None:
    env = counting([0.0, NEVER])
    obs: Any = env.reset()
    obs[:] = np.nan
    for _ in range(4):
        obs, rewards, dones, infos = env.step(actions())
        assert np.isfinite(obs).all()
        assert [len(info) for info in infos] == [1 + done for done in dones]
        for array in (obs, rewards):
            array[:] = np.nan
        assert len({id(info) for info in infos}) == len(infos)
        for info in infos:
            info.get("terminal_observation", np.zeros(1))[:] = np.nan
            info.update(written=True)
    assert not env.batch.num_broken


def test_a_seed_counts_from_the_next_reset_on() -> None:
    env = counting(*([k, NEVER] for k in range(50)), num_envs=5, seed=1)
    assert env.seed(7) == [7, 8, 9, 10, 11]
    first = env.reset()
    assert not np.array_equal(first, env.reset())
    env.seed(7)
    assert np.array_equal(first, env.reset())
    env.seed(8)
    assert not np.array_equal(first, env.reset())


def test_attributes_and_methods() -> None:
    env = counting([0.0, NEVER], num_envs=3)
    assert env.get_attr("rollout_length") == [3] * 3
    assert env.get_attr("render_mode", indices=1) == [None]
    assert env.has_attr("rollout_length")
    assert not env.has_attr("gravity")
    assert env.env_method("set_rollout_length", 2, indices=[0, 1]) == [None] * 2
    assert env.rollout_length == 2
    env.set_attr("note", "x")
    assert env.get_attr("note", indices=[0, 2]) == ["x"] * 2
    with pytest.raises(ValueError, match="'note' can only be set for all, indices=None"):
        env.set_attr("note", "y", indices=[0, 2])
    assert env.env_is_wrapped(Monitor) == [False] * 3
    assert env.env_is_wrapped(Monitor, indices=[1]) == [False]
    assert env.get_images() == [None] * 3
    env.close()


def test_the_controls_reach_the_batch() -> None:
    dynamics = Counting(breaks_at=8)
    env = counting([0.0, NEVER], dynamics=dynamics)
    env.refresh()
    assert dynamics.num_refreshed == 1
    env.set_rollout_length(1)
    env.set_start_obs(np.array([[7.0, NEVER]]))
    obs, _, dones, _ = env.step(actions())
    assert dones.all()
    assert obs.tolist() == [[7.0, NEVER]] * 2  # type: ignore[union-attr]
    env.step(actions())
    env.set_start_obs(np.array([[8.0, NEVER]]))
    env.reset()
    with pytest.warns(RuntimeWarning, match="nan or infinity for 2 of 2"):
        env.step(actions())
    assert env.num_broken == 2


def test_episodes_can_be_held_to_the_range_of_their_starts(pendulum: PETS) -> None:
    for stays in (False, True):
        env = LearnedVecEnv.from_agent(
            pendulum, num_envs=50, rollout_length=100, stay_in_range=stays
        )
        recorded = pendulum.buffer.all().obs
        low, high = recorded.min(axis=0), recorded.max(axis=0)
        obs: Any = env.reset()
        for _ in range(40):
            obs, *_ = env.step(actions(num_envs=50))
        assert ((obs >= low) & (obs <= high)).all() == stays


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (actions(num_envs=3), r"actions have shape \(3, 1\); allowed: \(2, 1\)"),
        (np.zeros(2), r"actions have shape \(2,\); allowed: \(2, 1\)"),
        (np.array([[0.0], [np.nan]]), "action of environment 1 is not finite"),
    ],
)
def test_impossible_actions(bad: Any, message: str) -> None:
    env = counting([0.0, NEVER])
    with pytest.raises(ValueError, match=message):
        env.step(bad)


@pytest.mark.parametrize("bad", [[1, 4], [0, 2]])
def test_impossible_discrete_actions(bad: list[int]) -> None:
    env = counting([0.0, NEVER], action_space=spaces.Discrete(3, start=1))
    with pytest.raises(ValueError, match=r"actions range from \d to \d; allowed: 1 to 3"):
        env.step(np.array(bad))


def test_impossible_arguments() -> None:
    with pytest.raises(ConfigError, match="'num_envs': 0; allowed: 1 or more"):
        counting([0.0, NEVER], num_envs=0)
    with pytest.raises(EnvError, match=r"observation space .* is not supported"):
        counting([0.0, NEVER], observation_space=spaces.Discrete(2))
    with pytest.raises(EnvError, match="has no finite bounds"):
        counting([0.0, NEVER], action_space=spaces.Box(-np.inf, 1.0, (1,)))


def test_monitor_and_normalisation_count_what_happens() -> None:
    env: Any = VecNormalize(VecMonitor(counting([0.0, NEVER], [0.0, 2.0], num_envs=8)))
    env.reset()
    episodes = []
    for _ in range(9):
        obs, _, dones, infos = env.step(actions(num_envs=8))
        assert np.abs(obs).max() <= 10.0
        for done, info in zip(dones, infos, strict=True):
            assert done == ("episode" in info) == ("terminal_observation" in info)
            if done:
                assert np.abs(info["terminal_observation"]).max() <= 10.0
                episodes.append((info["episode"]["l"], info["TimeLimit.truncated"]))
                assert info["episode"]["r"] == 0.5 * info["episode"]["l"]
    assert set(episodes) == {(2, False), (3, True)}


def test_policies_are_evaluated_in_it() -> None:
    env = VecMonitor(counting([0.0, NEVER], num_envs=4))
    policy = PPO("MlpPolicy", env, n_steps=4, seed=0, batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(
            policy, env, n_eval_episodes=6, return_episode_rewards=True
        )
    assert lengths == [3] * 6
    assert len(returns) == 6  # type: ignore[arg-type]


def test_only_terminations_end_the_bootstrapping_of_values() -> None:
    env = counting([0.0, NEVER], [0.0, 2.0], num_envs=8)
    sac = SAC("MlpPolicy", env, learning_starts=1000, seed=0).learn(80)
    data = sac.replay_buffer.sample(500)  # type: ignore[union-attr]
    end, count, next_count = (
        data.observations[:, 1],
        data.observations[:, 0],
        data.next_observations,
    )
    cut, terminated = (end == NEVER) & (count == 2), (end == 2) & (count == 1)
    assert cut.any()
    assert terminated.any()
    assert torch.equal(data.dones[:, 0] == 1, terminated)
    # Not the start of the next episode, wherever one ended.
    assert torch.equal(next_count[:, 0], count + 1)


@pytest.fixture(scope="module")
def pendulum() -> PETS:
    return small_pets().learn(25)


@pytest.fixture(scope="module")
def cartpole() -> PETS:
    return small_pets("CartPole-v1", reward_fn=None, termination_fn=None).learn(25)


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [
        (PPO, {"n_steps": 20, "batch_size": 40, "n_epochs": 2}),
        (SAC, {"learning_starts": 100, "batch_size": 16}),
        (TD3, {"learning_starts": 100, "batch_size": 16}),
    ],
)
def test_continuous_algorithms_run_in_it(
    pendulum: PETS, algorithm: Any, arguments: dict[str, Any]
) -> None:
    def learned() -> Any:
        env = LearnedVecEnv.from_agent(
            pendulum, num_envs=4, rollout_length=5, uncertainty_penalty=0.1
        )
        return algorithm("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": [8]}, **arguments)

    first, second, fresh = learned().learn(240), learned().learn(240), learned()
    weights, again, before = (model.policy.state_dict() for model in (first, second, fresh))
    for name in weights:
        assert torch.equal(weights[name], again[name]), name
        assert weights[name].isfinite().all(), name
    assert not all(torch.equal(weights[name], before[name]) for name in weights)
    action, _ = first.predict(pendulum.buffer.all().obs[:3], deterministic=True)
    assert action.shape == (3, 1)


def test_discrete_algorithms_run_in_it(cartpole: PETS) -> None:
    env = LearnedVecEnv.from_agent(cartpole, num_envs=4, rollout_length=5)
    dqn = DQN("MlpPolicy", env, learning_starts=100, batch_size=16, seed=0).learn(240)
    assert dqn.num_timesteps == 240
    for parameter in dqn.policy.parameters():
        assert parameter.isfinite().all()


def test_an_agents_environments_begin_where_it_has_been(pendulum: PETS) -> None:
    env = LearnedVecEnv.from_agent(pendulum, num_envs=50, rollout_length=5)
    assert env.observation_space == pendulum.env.observation_space
    recorded = {obs.tobytes() for obs in pendulum.buffer.all().obs}
    starts: Any = env.reset()
    assert {obs.tobytes() for obs in starts} <= recorded
    assert len({obs.tobytes() for obs in starts}) > 10


def test_an_agents_environments_pay_its_reward_and_move_by_its_members(pendulum: PETS) -> None:
    env = LearnedVecEnv.from_agent(pendulum, num_envs=20, rollout_length=5, deterministic=True)
    obs: Any = env.reset()
    torque = np.linspace(-2.0, 2.0, 20, dtype=np.float32)[:, None]
    next_obs, rewards, _, _ = env.step(torque)
    means, _ = pendulum.predict_next_obs(obs, torque)
    distance = np.abs(means - next_obs).max(axis=-1).min(axis=0)
    assert (distance < 1e-4).all()
    angle = np.arctan2(obs[:, 1], obs[:, 0])
    expected = -(angle**2 + 0.1 * obs[:, 2] ** 2 + 0.001 * torque[:, 0] ** 2)
    assert rewards == pytest.approx(expected, rel=1e-3)


def test_an_agents_environments_follow_its_fits() -> None:
    agent = small_pets().learn(25)
    env = LearnedVecEnv.from_agent(agent, num_envs=6, rollout_length=5)

    def stepped() -> Any:
        env.seed(0)
        env.reset()
        return env.step(actions(num_envs=6))[0]

    before = stepped()
    agent.learn(20)
    assert np.array_equal(stepped(), before)
    env.refresh()
    assert not np.array_equal(stepped(), before)
    env.set_start_obs(agent.buffer.all())
    assert len(env.batch._start_obs) == 45


def test_the_seed_is_the_agents_unless_given(pendulum: PETS) -> None:
    def starts(**arguments: Any) -> Any:
        env = LearnedVecEnv.from_agent(pendulum, num_envs=9, rollout_length=5, **arguments)
        return env.reset()

    assert np.array_equal(starts(), starts())
    assert not np.array_equal(starts(), starts(seed=12))
    assert np.array_equal(starts(seed=12), starts(seed=12))


def test_an_agent_has_to_learn_first() -> None:
    agent = small_pets()
    with pytest.raises(MBRLError, match=r"never been fitted after 0 steps; learn first: .*=20"):
        LearnedVecEnv.from_agent(agent, num_envs=2, rollout_length=5)


def test_the_shape_of_actions_is_the_environments() -> None:
    env = SpacesEnv(spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-3.0, 1.0, (2, 2)))
    learned = LearnedVecEnv.from_agent(small_pets(env).learn(25), num_envs=3, rollout_length=5)
    learned.reset()
    learned.step(np.full((3, 2, 2), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"allowed: \(3, 2, 2\)"):
        learned.step(np.zeros((3, 4)))
