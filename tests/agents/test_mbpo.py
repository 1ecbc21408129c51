"""MBPO: what it imagines, what it learns from, and when."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from mbrl_agents import MBPO, Callback
from mbrl_agents.policies.config import MBPOConfig, RolloutLengthConfig
from mbrl_bilevel.config import validate
from mbrl_bilevel.errors import ConfigError, DatasetError
from mbrl_bilevel.types import Agent
from tests.agents.small import SMALL_MODEL, assert_identical


def small_mbpo(env: gym.Env[Any, Any] | str = "Pendulum-v1", **arguments: Any) -> MBPO:
    defaults: dict[str, Any] = {
        "model": SMALL_MODEL,
        "learning_starts": 20,
        "model_train_freq": 15,
        "rollout_freq": 5,
        "num_rollouts": 6,
        "retained_rollouts": 3,
        "gradient_steps": 1,
        "sac": {"net_arch": [8], "batch_size": 16},
    }
    return MBPO(env, **{**defaults, **arguments})


@pytest.mark.parametrize(
    ("step", "length"),
    [(0, 1), (100, 1), (149, 1), (150, 2), (199, 2), (200, 3), (300, 5), (9999, 5)],
)
def test_rollouts_grow_linearly(step: int, length: int) -> None:
    schedule = RolloutLengthConfig(initial=1, final=5, begin_step=100, end_step=300)
    assert schedule.at(step) == length


def test_a_number_is_a_schedule_that_stays() -> None:
    schedule = validate(MBPOConfig, {"rollout_length": 7}).rollout_length
    assert [schedule.at(step) for step in (0, 1, 10**9)] == [7, 7, 7]


def test_rollouts_can_shrink() -> None:
    schedule = RolloutLengthConfig(initial=5, final=1, end_step=100)
    assert [schedule.at(step) for step in (0, 25, 100)] == [5, 4, 1]


class Watch(Callback):
    """Remembers after each step how many imagined transitions there are, and updates."""

    def __init__(self) -> None:
        self.imagined: dict[int, int] = {}
        self.updates: dict[int, int] = {}
        self.metrics: list[Any] = []

    def on_step(self, agent: Agent) -> bool:
        assert isinstance(agent, MBPO)
        self.imagined[agent.num_timesteps] = len(agent.imagined)
        self.updates[agent.num_timesteps] = agent.algorithm._n_updates
        return True

    def on_fit(self, agent: Agent, metrics: Any) -> None:
        self.metrics.append((agent.num_timesteps, metrics))


def test_it_rolls_out_after_fits_and_in_between_and_updates_at_every_step() -> None:
    watch = Watch()
    small_mbpo(gradient_steps=2, rollout_length=2).learn(40, watch)
    # Fits at 20 and 35, rollouts every 5 steps: 12 transitions each time, 36 at most.
    sizes = {step: watch.imagined[step] for step in (19, 20, 24, 25, 30, 35, 40)}
    assert sizes == {19: 0, 20: 12, 24: 12, 25: 24, 30: 36, 35: 36, 40: 36}
    assert [watch.updates[step] for step in (19, 20, 21, 40)] == [0, 2, 4, 42]
    assert [step for step, _ in watch.metrics] == [20, 35]
    assert watch.metrics[1][1]["imagination/rollout_length"] == 2
    assert watch.metrics[1][1].keys() >= {
        "model/val_rmse", "train/critic_loss", "train/ent_coef", "imagination/reward_mean",
    }  # fmt: skip


def test_room_grows_with_the_rollouts() -> None:
    agent = small_mbpo(rollout_length={"initial": 1, "final": 3, "begin_step": 20, "end_step": 40})
    agent.learn(25)
    assert agent.imagined.capacity == 6 * 1 * 3
    agent.learn(15)
    assert agent.imagined.capacity == 6 * 3 * 3


def test_imagined_transitions_follow_each_other_as_the_model_does() -> None:
    agent = small_mbpo(rollout_length=3).learn(20)
    state = agent.imagined.state_dict()
    obs, next_obs = (state[name].reshape(3, 6, 3) for name in ("obs", "next_obs"))
    assert torch.equal(next_obs[:-1], obs[1:])
    recorded = torch.tensor(agent.buffer.all().obs)
    assert all((recorded == start).all(dim=1).any() for start in obs[0])
    assert not any((recorded == later).all(dim=1).any() for later in obs[1])
    # The end of a rollout is not the end of the task.
    assert not state["terminated"].any()
    actions = state["actions"]
    assert actions.abs().max() <= 1
    assert agent.reward_fn is not None
    expected = agent.reward_fn(state["obs"], agent.codec.decode(actions), state["next_obs"])
    assert torch.allclose(state["rewards"][:, 0], expected)


def test_terminations_are_kept_and_rollouts_begin_anew_after_them() -> None:
    def at_once(obs: Any, action: Any, next_obs: Any) -> Any:
        del action, next_obs
        return torch.ones_like(obs[..., 0], dtype=torch.bool)

    with pytest.warns(UserWarning, match="termination_fn is wrong"):
        agent = small_mbpo(rollout_length=3, termination_fn=at_once).learn(20)
    state = agent.imagined.state_dict()
    assert state["terminated"].all()
    recorded = torch.tensor(agent.buffer.all().obs)
    assert all((recorded == start).all(dim=1).any() for start in state["obs"])
    assert not any((recorded == end).all(dim=1).any() for end in state["next_obs"])


def test_rollouts_can_be_held_to_the_recorded_range() -> None:
    farthest = []
    for stays in (False, True):
        watch = Watch()
        agent = small_mbpo(rollout_length=10, num_rollouts=50, stay_in_range=stays)
        agent.learn(20, watch)
        recorded, imagined = torch.tensor(agent.buffer.all().obs), agent.imagined.state_dict()
        lowest, highest = recorded.amin(dim=0), recorded.amax(dim=0)
        farthest.append(torch.maximum(lowest - imagined["obs"], imagined["obs"] - highest).max())
        next_obs = imagined["next_obs"]
        share = ((next_obs < lowest) | (next_obs > highest)).any(dim=1).float().mean().item()
        left = watch.metrics[0][1]["imagination/left_range"]
        assert share > 0.1
        assert left == pytest.approx(share if stays else 0.0)
    assert farthest[0] > 0.1
    assert farthest[1] == 0  # the step that leaves it is learned from, and nothing after it


def test_uncertainty_is_taken_from_the_reward() -> None:
    plain = small_mbpo(rollout_length=1).learn(20)
    careful = small_mbpo(rollout_length=1, uncertainty_penalty=2.0).learn(20)
    first, second = (agent.imagined.state_dict() for agent in (plain, careful))
    assert torch.equal(first["obs"], second["obs"])
    assert (second["rewards"] < first["rewards"] - 1e-3).all()


def test_the_policy_learns_scaled_rewards_and_the_agent_keeps_plain_ones() -> None:
    plain = small_mbpo().learn(20)
    scaled = small_mbpo(reward_scale=0.1).learn(20)
    first, second = (agent.imagined.state_dict() for agent in (plain, scaled))
    assert torch.equal(first["rewards"], second["rewards"])
    buffer = scaled.algorithm.replay_buffer
    assert buffer is not None
    batch = buffer.sample(500)
    everything = torch.cat([second["rewards"], scaled.real.state_dict()["rewards"]])
    assert torch.isin(batch.rewards, 0.1 * everything).all()
    assert len(batch.rewards.unique()) > 10


def test_actions_are_those_of_sac_in_the_environments_units() -> None:
    agent = small_mbpo().learn(25)
    obs = np.array([[0.8, 0.6, -0.5], [1.0, 0.0, 3.0]])
    actions, state = agent.predict(obs, deterministic=True)
    expected = agent.algorithm.actor(torch.tensor(obs, dtype=torch.float32), deterministic=True)
    assert state is None
    assert actions == pytest.approx(2 * expected.detach().numpy())
    single, _ = agent.predict(obs[0], deterministic=True)
    assert single == pytest.approx(actions[0])
    assert len({float(agent.predict(obs[0])[0][0]) for _ in range(5)}) == 5
    with pytest.raises(ValueError, match=r"shape \(4,\); expected \(3,\)"):
        agent.predict(np.zeros(4))


def test_averaged_weights_act_at_best_and_change_nothing_that_is_learned(tmp_path: Path) -> None:
    plain, agent = small_mbpo(), small_mbpo(averaged_steps=4)
    obs = np.array([[0.8, 0.6, -0.5], [1.0, 0.0, 3.0]])
    expected: list[torch.Tensor] = []
    for _ in range(26):
        plain.learn(1)
        agent.learn(1)
        latest = [p.detach().clone() for p in agent.algorithm.actor.parameters()]
        if agent.num_fits and not expected:
            expected = latest
        elif agent.num_fits:
            expected = [0.75 * old + 0.25 * new for old, new in zip(expected, latest, strict=True)]
    recorded = (each.buffer.all().actions for each in (plain, agent))
    assert np.array_equal(*recorded)
    for mine, other in zip(latest, plain.algorithm.actor.parameters(), strict=True):
        assert torch.equal(mine, other)
    best, _ = agent.predict(obs, deterministic=True)
    agent.save(tmp_path / "agent")
    restored = MBPO.load(tmp_path / "agent")
    assert np.array_equal(restored.predict(obs, deterministic=True)[0], best)
    assert_identical(restored.learn(3).state_dict(), agent.learn(3).state_dict())
    with torch.no_grad():
        for parameter, value in zip(plain.algorithm.actor.parameters(), expected, strict=True):
            parameter.copy_(value)
    assert best == pytest.approx(plain.predict(obs, deterministic=True)[0], abs=1e-6)
    latest_best, _ = agent.algorithm.predict(obs.astype(np.float32), deterministic=True)
    assert best != pytest.approx(latest_best, abs=1e-5)


def test_the_same_seed_gives_the_same_agent_whatever_others_draw() -> None:
    first = small_mbpo(seed=3).learn(30)
    torch.rand(7)
    second = small_mbpo(seed=3)
    for _ in range(30):
        second.learn(1)
        torch.rand(1)
    assert_identical(first.state_dict(), second.state_dict())


def test_state_dependent_noise_works() -> None:
    agent = small_mbpo(sac={"net_arch": [8], "batch_size": 16, "use_sde": True}).learn(25)
    assert agent.num_fits == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sac": {"buffer_size": 3}}, "unknown key 'buffer_size'"),
        ({"sac": {"gama": 0.9}}, "did you mean 'gamma'"),
        ({"offline": True}, "missing key 'agent.dataset.path': offline=true"),
        ({"dataset": {"path": "x"}}, "'agent.dataset.path': 'x'; only offline=true learns"),
        ({"rollout_length": 0}, "^invalid value for 'rollout_length': 0; .*at least 1 step$"),
        ({"rollout_length": {"begin_step": 5, "end_step": 3}}, "at least begin_step=5"),
        ({"real_data_ratio": 1.5}, "real_data_ratio"),
        ({"reward_scale": 0.0}, "reward_scale"),
        ({"uncertainty_penalty": -1.0}, "uncertainty_penalty"),
        ({"averaged_steps": -1}, "averaged_steps"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_mbpo(**settings)


def test_discrete_actions_are_refused() -> None:
    with pytest.raises(ConfigError, match="'sac' acts in Box spaces, but the environment's is Dis"):
        small_mbpo("CartPole-v1")


# offline


def write_dataset(path: Path, num_steps: int = 60) -> Path:
    """Random torques on the pendulum, in episodes of 20."""
    env = gym.make("Pendulum-v1", max_episode_steps=20)
    env.action_space.seed(0)
    rows = []
    obs, _ = env.reset(seed=0)
    for _ in range(num_steps):
        action = env.action_space.sample()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rows.append((obs, action, reward, next_obs, terminated, truncated))
        obs = env.reset()[0] if truncated else next_obs
    names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
    columns = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
    np.savez(path, **columns)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("offline") / "pendulum.npz")


class NeverActs(gym.Wrapper[Any, Any, Any, Any]):
    def reset(self, **_: Any) -> Any:
        raise AssertionError("the environment was reset")


def offline_mbpo(dataset: Path, **arguments: Any) -> MBPO:
    env = NeverActs(gym.make("Pendulum-v1"))
    return small_mbpo(env, offline=True, dataset={"path": str(dataset)}, **arguments)


def test_offline_it_learns_from_a_dataset_without_acting(dataset: Path) -> None:
    watch = Watch()
    agent = offline_mbpo(dataset).learn(12, watch)
    assert len(agent.buffer) == 60
    assert np.array_equal(agent.buffer.all().obs, np.load(dataset)["obs"])
    assert agent.num_fits == 1
    assert agent.num_timesteps == 12
    assert watch.updates == {step: step for step in range(1, 13)}
    assert [watch.imagined[step] for step in (1, 4, 5, 10)] == [6, 6, 12, 18]
    assert [step for step, _ in watch.metrics] == [0]


def test_offline_it_goes_on_without_the_dataset(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.npz"
    copy.write_bytes(dataset.read_bytes())
    agent = offline_mbpo(copy).learn(6)
    agent.save(tmp_path / "agent")
    copy.unlink()
    resumed = MBPO.load(tmp_path / "agent", env=NeverActs(gym.make("Pendulum-v1"))).learn(6)
    assert_identical(resumed.state_dict(), agent.learn(6).state_dict())


def test_offline_other_spaces_are_refused(dataset: Path) -> None:
    agent = small_mbpo("MountainCarContinuous-v0", offline=True, dataset={"path": str(dataset)})
    with pytest.raises(DatasetError, match=r"has observation_space .*, but MountainCarContin"):
        agent.learn(1)


def test_offline_a_missing_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.npz"):
        offline_mbpo(tmp_path / "none.npz").learn(1)
