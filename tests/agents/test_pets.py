"""Learning: what happens when, and with which functions; and what cannot be learned."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents import PETS, Callback
from mbrl_bilevel.errors import ConfigError, EnvError
from mbrl_bilevel.runs import capture_rng_state
from mbrl_bilevel.types import Agent
from tests.agents.small import SMALL_MODEL, SpacesEnv, assert_identical, differ, small_pets


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("objective", ["bilevel", "nll", "mse", "beta_nll"])
def test_the_seed_decides_everything(env_id: str, objective: str) -> None:
    first, again, other = (
        small_pets(env_id, objective=objective, seed=seed).learn(40) for seed in (1, 1, 2)
    )
    assert first.num_fits == 2
    assert_identical(first.state_dict(), again.state_dict())
    for part in ("model", "buffer", "generator"):
        assert differ(first.state_dict()[part], other.state_dict()[part])
    obs = first.env.observation_space.sample() * 0 + 0.1
    first_action, _ = first.predict(obs)
    again_action, _ = again.predict(obs)
    assert np.array_equal(first_action, again_action)


def test_the_global_generators_neither_matter_nor_move() -> None:
    before = capture_rng_state()
    first = small_pets("CartPole-v1").learn(40)
    assert_identical(capture_rng_state(), before)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the point
    assert_identical(small_pets("CartPole-v1").learn(40).state_dict(), first.state_dict())


def test_learning_in_parts_is_learning_at_once() -> None:
    at_once = small_pets("CartPole-v1").learn(60)
    in_parts = small_pets("CartPole-v1").learn(17).learn(0).learn(24).learn(19)
    assert_identical(in_parts.state_dict(), at_once.state_dict())


def test_what_is_recorded_is_what_happened() -> None:
    agent = small_pets("CartPole-v1").learn(60)
    transitions = agent.buffer.all()
    assert len(transitions) == agent.num_timesteps == 60
    ends = np.flatnonzero(transitions.terminated | transitions.truncated)
    assert len(ends) == len(agent.interaction.returns) > 1
    inside = np.setdiff1d(np.arange(59), ends)
    np.testing.assert_array_equal(transitions.obs[inside + 1], transitions.next_obs[inside])
    assert not (transitions.obs[ends[:-1] + 1] == transitions.next_obs[ends[:-1]]).all(1).any()
    assert (transitions.rewards == 1).all()
    assert set(transitions.actions.tolist()) == {0, 1}
    # CartPole's episodes of this length end by a fall.
    assert transitions.terminated[ends].all()


def test_random_actions_come_first_and_use_the_whole_range() -> None:
    agent = small_pets(learning_starts=200).learn(199)
    actions = agent.buffer.all().actions
    assert agent.num_fits == 0
    assert agent.planner_state.step == 0
    assert np.abs(actions).max() <= 2.0
    assert np.quantile(actions, [0.1, 0.5, 0.9]) == pytest.approx([-1.6, 0.0, 1.6], abs=0.5)


def test_fits_come_at_learning_starts_and_every_model_train_freq_steps() -> None:
    class Fits(Callback):
        def __init__(self) -> None:
            self.at: list[int] = []
            self.tags: set[str] = set()

        def on_fit(self, agent: Agent, metrics: Mapping[str, float]) -> None:
            self.at.append(agent.num_timesteps)
            self.tags |= set(metrics)

    fits = Fits()
    agent = small_pets(learning_starts=25, model_train_freq=10).learn(50, fits)
    assert fits.at == [25, 35, 45]
    assert agent.num_fits == 3
    assert {"model/val_nll", "model/val_rmse", "bilevel/outer_loss"} <= fits.tags


def test_the_planner_goes_on_within_an_episode_and_starts_anew_with_the_next() -> None:
    steps = []

    class Steps(Callback):
        def on_step(self, agent: Agent) -> bool:
            assert isinstance(agent, PETS)
            steps.append(agent.planner_state.step)
            return True

    small_pets(gym.make("Pendulum-v1", max_episode_steps=10)).learn(45, Steps())
    assert steps == [0] * 20 + [*range(1, 11)] * 2 + [*range(1, 6)]


class Bounds(gym.Wrapper[Any, Any, Any, Any]):
    """Refuses what its action space does not contain; remembers the rest."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.actions: list[Any] = []

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.actions.append(action)
        return super().step(action)


def test_continuous_actions_stay_within_bounds_and_reach_them() -> None:
    env = Bounds(gym.make("Pendulum-v1"))
    agent = small_pets(env, reward_fn=lambda _obs, action, _next: action[..., 0].square())
    with pytest.warns(UserWarning, match="reward_fn differs from the rewards of Pendulum-v1"):
        agent.learn(60)
    actions = np.array(env.actions)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() == 2.0
    predicted, _ = agent.predict(agent.buffer.all().obs[:5])
    assert predicted.dtype == np.float32
    assert np.abs(predicted).max() <= 2.0


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Discrete(2, start=-1),
        spaces.Box(np.array([-1.0, 2.0]), np.array([0.5, 7.0]), dtype=np.float64),
        spaces.Box(-3.0, 1.0, (2, 2), np.float32),
        spaces.Box(-1.0, 1.0, (1,), np.float32),
    ],
    ids=str,
)
def test_actions_are_of_the_environments_space(space: spaces.Space[Any]) -> None:
    env = SpacesEnv(spaces.Box(-1.0, 1.0, (2,), np.float64), space)
    agent = small_pets(env).learn(40)
    assert len(env.actions) == 40
    one, _ = agent.predict(np.zeros(2))
    batch, _ = agent.predict(np.zeros((5, 2)))
    assert space.contains(one)
    assert all(space.contains(action) for action in batch)
    if isinstance(space, spaces.Discrete):
        taken = {int(action) for action in env.actions}
        assert taken == set(range(int(space.start), int(space.start + space.n)))


def test_a_known_task_is_planned_with_its_exact_functions(trained: PETS) -> None:
    assert not trained.model.learns_reward
    assert trained.model.termination is None


def test_what_is_not_known_is_learned() -> None:
    agent = small_pets("CartPole-v1").learn(40)
    assert agent.model.learns_reward
    assert agent.model.termination is not None
    assert agent.model.termination.has_terminations


def test_exact_functions_can_be_declined() -> None:
    agent = small_pets(reward_fn=None, termination_fn=None).learn(25)
    assert agent.model.learns_reward
    assert agent.model.termination is not None


def test_functions_of_ones_own_are_planned_with() -> None:
    seen: dict[str, Tensor] = {}

    def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        seen["reward"] = action
        return torch.ones(next_obs.shape[:-1]) + 0 * obs[..., 0]

    def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        seen["termination"] = action
        return (next_obs[..., 0].abs() > 2.4) | (next_obs[..., 2].abs() > 0.2095) & (obs == obs)[
            ..., 0
        ]

    agent = small_pets("CartPole-v1", reward_fn=reward_fn, termination_fn=termination_fn)
    agent.learn(30)  # exact: the check against the data does not warn
    assert agent.model.termination is None
    for action in seen.values():
        assert action.dtype == torch.int64
        assert action.shape[:2] == (4, 3)  # steps and particles


def test_a_wrong_reward_warns_at_the_first_fit() -> None:
    agent = small_pets(reward_fn=lambda _obs, _action, next_obs: next_obs[..., 0])
    agent.learn(19)
    with pytest.warns(UserWarning, match="reward_fn=None learns the reward"):
        agent.learn(1)


def test_a_wrong_termination_warns_at_the_first_fit() -> None:
    agent = small_pets(termination_fn=lambda obs, _action, next_obs: next_obs[..., 0] > obs[..., 0])
    agent.learn(19)
    with pytest.warns(UserWarning, match=r"termination_fn is wrong on \d+ of 16 transitions"):
        agent.learn(1)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Discrete(4), spaces.Discrete(2), "observation space Discrete.* one-dimensional"),
        (
            spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)}),
            spaces.Discrete(2),
            r"observation\['camera'\] of .* is an image",
        ),
        (
            spaces.Box(0, 255, (8, 8, 3), np.uint8),
            spaces.Discrete(2),
            "observation space Box.*images are not supported",
        ),
        (
            spaces.Box(-1, 1, (2,)),
            spaces.MultiDiscrete([2, 2]),
            "action space MultiDiscrete.* is not supported; allowed: Box, Discrete",
        ),
        (
            spaces.Box(-1, 1, (2,)),
            spaces.Box(-np.inf, np.inf, (1,)),
            "action space Box.* has no finite bounds",
        ),
    ],
    ids=["discrete-obs", "image-in-dict-obs", "image-obs", "multi-discrete", "unbounded"],
)
def test_unsupported_spaces_are_refused(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(EnvError, match=message):
        small_pets(SpacesEnv(observation_space, action_space))


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"env.id='Pendulun-v1' is not known.*Pendulum"):
        small_pets("Pendulun-v1")


def test_a_nan_of_the_environment_ends_learning() -> None:
    class Nan(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            obs, reward, *rest = super().step(action)
            return obs, float(reward) * np.nan, *rest

    agent = small_pets(Nan(gym.make("Pendulum-v1")))
    with pytest.raises(
        EnvError, match=r"^Pendulum-v1, episode 0, step 0: step returned reward nan"
    ):
        agent.learn(5)


def test_a_bilevel_agent_shows_what_matters() -> None:
    agent = small_pets()
    assert agent.figures() == {}
    upper, lower = agent.learn(40).figures()["what_matters"].axes
    shares = [bar.get_height() for bar in upper.patches]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(1)
    decays = [bar.get_height() for bar in lower.patches]
    assert agent.trainer.outer.decay is not None
    assert decays == pytest.approx(agent.trainer.outer.decay.input_rates[:3].tolist())


def test_what_an_objective_does_not_learn_is_not_shown() -> None:
    assert small_pets(objective="nll").learn(40).figures() == {}
    likelihood = {"name": "bilevel", "outer": "likelihood"}
    learned = {**SMALL_MODEL, "weight_decay": "learned"}
    (axes,) = (
        small_pets(objective=likelihood, model=learned).learn(40).figures()["what_matters"].axes
    )
    assert len(axes.patches) == 3  # one an observation
