"""Finite environments: their tables, against what they do, and the tasks that read them."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from mbrl_bilevel.errors import EnvError
from mbrl_envs.tabular import ChainEnv, GarnetEnv, GridWorldEnv, TabularEnv
from mbrl_envs.tabular.boards import board_of
from mbrl_envs.tasks import find_task, read_tables

OWN = ["Chain-v0", "Garnet-v0", "GridWorld-v0"]
TOY_TEXT: list[tuple[str, dict[str, Any]]] = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False, "map_name": "8x8"}),
    ("FrozenLake-v1", {"success_rate": 0.7, "reward_schedule": (5, -1, -0.1)}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
]


@pytest.mark.parametrize("env_id", OWN)
@pytest.mark.parametrize("render_mode", ["ansi", "rgb_array"])
def test_both_checkers_pass(env_id: str, render_mode: str) -> None:
    env = gym.make(f"mbrl_envs:{env_id}", render_mode=render_mode).unwrapped
    check_env(env, skip_render_check=render_mode == "ansi")
    check_env_for_sb3(env, skip_render_check=render_mode == "ansi")


@pytest.mark.parametrize(
    ("env_id", "kwargs"), [*((f"mbrl_envs:{env_id}", {}) for env_id in OWN), *TOY_TEXT]
)
def test_what_happens_is_what_the_tables_say(env_id: str, kwargs: dict[str, Any]) -> None:
    """Every step is possible, pays and ends as the tables have it, and their shares agree."""
    env = gym.make(env_id, **kwargs)
    task = find_task(env)
    assert task is not None
    assert task.tables_fn is not None
    mdp = task.tables_fn(env)
    inner: Any = env.unwrapped
    outcomes_of = inner.P
    rng = np.random.default_rng(0)
    seen = np.zeros_like(mdp.transition_table)
    state, _ = env.reset(seed=0)
    for step in range(3000):
        assert step or mdp.initial_distribution[state] > 0
        action = int(rng.integers(mdp.num_actions))
        next_state, reward, terminated, truncated, info = env.step(action)
        where = (int(state), action, int(next_state))
        # Of several outcomes that lead to one state, the environment names one.
        assert mdp.transition_table[where] >= info["prob"] - 1e-12
        outcomes = [o[2:] for o in outcomes_of[where[0]][action] if o[1] == next_state]
        assert any(np.allclose(outcome, (reward, terminated)) for outcome in outcomes)
        if len(set(outcomes)) == 1:
            assert mdp.reward_table[where] == pytest.approx(reward)
            assert mdp.termination_table[where] == terminated
        seen[where] += 1
        state = next_state
        if terminated or truncated or step % 200 == 199:
            state, _ = env.reset()
            assert mdp.initial_distribution[state] > 0
    times = seen.sum(axis=-1)
    often = times >= 30
    shares = seen[often] / times[often][:, None]
    # Six standard deviations of a share.
    allowed = 3 / np.sqrt(times[often])[:, None]
    assert (np.abs(shares - mdp.transition_table[often]) <= allowed).all()


@pytest.mark.parametrize("env_id", OWN)
def test_one_seed_gives_one_trajectory(env_id: str) -> None:
    def trajectory(seed: int) -> list[Any]:
        env = gym.make(f"mbrl_envs:{env_id}")
        found: list[Any] = [env.reset(seed=seed)]
        return found + [env.step(i % int(env.action_space.n))[:3] for i in range(40)]  # type: ignore[attr-defined]

    assert trajectory(3) == trajectory(3)
    assert trajectory(3) != trajectory(4)


@pytest.mark.parametrize("make", [ChainEnv, GarnetEnv, GridWorldEnv])
def test_the_tables_are_exposed_in_both_forms(make: type[TabularEnv]) -> None:
    env: Any = make()  # type: ignore[call-arg]
    mdp = read_tables(env)
    np.testing.assert_allclose(mdp.transition_table, env.transition_table, atol=1e-12)
    possible = env.transition_table > 0
    np.testing.assert_allclose(mdp.reward_table[possible], env.reward_table[possible])
    np.testing.assert_array_equal(
        mdp.termination_table[possible],
        np.broadcast_to(env.terminal_states, possible.shape)[possible],
    )
    np.testing.assert_array_equal(env.initial_state_distrib, env.initial_distribution)
    assert env.transition_table.shape == env.reward_table.shape
    assert env.mdp().num_states == env.observation_space.n


def test_a_grid_by_hand() -> None:
    env = GridWorldEnv(layout=["S#G", "..H"], slip=0.2, step_reward=-0.1)
    start, goal, below, middle, hole = range(5)
    up, right, down, left = range(4)
    row = env.transition_table[start]
    assert row[down].tolist() == pytest.approx([0.2, 0, 0.8, 0, 0])  # slips into wall and edge
    assert row[right].tolist() == pytest.approx([0.9, 0, 0.1, 0, 0])
    assert env.transition_table[middle, right, hole] == pytest.approx(0.8)
    assert env.transition_table[middle, up, below] == pytest.approx(0.1)
    assert env.transition_table[hole, left, hole] == 1.0
    assert env.reward_table[middle, right, hole] == -1.0
    assert env.reward_table[hole, up, goal] == 0.0
    assert env.reward_table[start, down, below] == -0.1
    assert env.terminal_states.tolist() == [False, True, False, False, True]
    assert env.initial_distribution.tolist() == [1, 0, 0, 0, 0]


def test_a_chain_by_hand() -> None:
    env = ChainEnv(num_states=3, slip=0.2)
    forward, back = 0, 1
    np.testing.assert_allclose(env.transition_table[1], [[0.2, 0, 0.8], [0.8, 0, 0.2]])
    np.testing.assert_allclose(env.transition_table[2, forward], [0.2, 0, 0.8])
    assert env.reward_table[2, back, 2] == 10.0
    assert env.reward_table[1, forward, 2] == 0.0
    assert (env.reward_table[:, :, 0] == 2.0).all()


def test_the_seed_of_a_garnet_decides_on_the_process() -> None:
    first, same, other = (GarnetEnv(num_states=8, branching=2, mdp_seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.transition_table, same.transition_table)
    np.testing.assert_array_equal(first.reward_table, same.reward_table)
    assert not np.array_equal(first.transition_table, other.transition_table)
    assert ((first.transition_table > 0).sum(axis=-1) == 2).all()
    np.testing.assert_allclose(first.transition_table.sum(axis=-1), 1.0)


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (GridWorldEnv, {"layout": ["S.", "."]}, "rows of equal length"),
        (GridWorldEnv, {"layout": "S.G"}, "rows of equal length"),
        (GridWorldEnv, {"layout": ["SXG"]}, "holds 'X'; allowed"),
        (GridWorldEnv, {"layout": ["..G"]}, "no start 'S'"),
        (GridWorldEnv, {"slip": 1.5}, r"slip=1.5; it must lie in \[0, 1\]"),
        (ChainEnv, {"num_states": 1}, "num_states=1; it must be an integer of at least 2"),
        (ChainEnv, {"slip": -0.1}, "slip=-0.1"),
        (GarnetEnv, {"branching": 30}, "branching=30; it must be an integer from 1 to 20"),
        (GarnetEnv, {"mdp_seed": -1}, "mdp_seed=-1"),
    ],
)
def test_impossible_arguments(make: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_pictures_show_the_agent() -> None:
    env = GridWorldEnv(layout=["S.G", "###"], slip=0.0, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(1)
    after = env.render()
    assert before.shape == after.shape == (128, 192, 3)
    changed = np.argwhere((before != after).any(axis=-1))
    assert changed[:, 0].max() < 64
    assert changed[:, 1].max() < 128
    assert (before[32, 32] == after[32, 96]).all()


def test_text_shows_the_agent_and_what_it_did() -> None:
    env = GridWorldEnv(layout=["S.G", "#.#"], slip=0.0, render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "\n[S] .  G\n #  .  #\n"
    env.step(1)
    assert env.render() == "(right)\n S [.] G\n #  .  #\n"
    garnet = GarnetEnv(num_states=5, render_mode="ansi")
    garnet.reset(seed=0)
    assert garnet.render().count("#") == 1  # 3 x 2 cells for five states


def test_rendering_without_a_mode_warns() -> None:
    env = ChainEnv()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None


def test_boards_of_gymnasiums_environments() -> None:
    lake = board_of(gym.make("FrozenLake-v1"))
    assert lake is not None
    assert lake.letters.shape == (4, 4)
    assert lake.letters[lake.cells[15]] == "G"
    assert lake.moves[2] == (0, 1)
    cliff = board_of(gym.make("CliffWalking-v1"))
    assert cliff is not None
    assert cliff.cells[36] == (3, 0)
    assert board_of(gym.make("Taxi-v4")) is None


def test_a_passenger_who_changes_their_mind_is_in_no_table(caplog: Any) -> None:
    assert find_task(gym.make("Taxi-v4", fickle_passenger=True)) is None
    assert "fickle_passenger" in caplog.text


def test_environments_without_tables() -> None:
    with pytest.raises(EnvError, match=r"CartPole-v1 has no tables: .* no 'P'"):
        read_tables(gym.make("CartPole-v1"))
    env: Any = gym.make("FrozenLake-v1")
    env.unwrapped.P = {0: {0: [(1.0, 0, 0.0, False)]}}
    with pytest.raises(EnvError, match="the tables of FrozenLake-v1"):
        read_tables(env)
