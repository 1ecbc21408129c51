"""Models learned from counts."""

import numpy as np
import pytest

from mbrl_bilevel.config.tabular import (
    CountsConfig,
    DirichletConfig,
    OneHotBilevelConfig,
    OneHotPGConfig,
)
from mbrl_bilevel.errors import CheckpointError
from mbrl_bilevel.tabular import (
    TransitionCounts,
    dirichlet_mean,
    inner_solution,
    learn_transitions,
    learned_mdp,
    maximum_likelihood,
)
from mbrl_bilevel.tabular.model import ObjectiveSettings
from tests.tabular.cases import tables

EACH_OBJECTIVE: list[ObjectiveSettings] = [
    CountsConfig(),
    DirichletConfig(),
    OneHotPGConfig(),
    OneHotPGConfig(beta=None),
    OneHotBilevelConfig(reward="scalar"),
    OneHotBilevelConfig(),
]


def wander(env_id: str, num_steps: int, seed: int = 0) -> TransitionCounts:
    """Random steps, from anywhere, by the tables."""
    mdp, rng = tables(env_id), np.random.default_rng(seed)
    seen = TransitionCounts(mdp.num_states, mdp.num_actions, 0.2, seed)
    for _ in range(num_steps):
        state, action = int(rng.integers(mdp.num_states)), int(rng.integers(mdp.num_actions))
        next_state = int(rng.choice(mdp.num_states, p=mdp.transition_table[state, action]))
        where = (state, action, next_state)
        ends = rng.random() < mdp.termination_table[where]
        seen.add(state, action, float(mdp.reward_table[where]), next_state, bool(ends))
    return seen


def test_shares_and_posterior_means() -> None:
    counts = np.array([[3, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(maximum_likelihood(counts), [[0.75, 0.25, 0, 0], [0.25] * 4])
    expected = [[3.5 / 6, 1.5 / 6, 0.5 / 6, 0.5 / 6], [0.25] * 4]
    np.testing.assert_allclose(dirichlet_mean(counts, 2.0), expected)


def test_counts_are_what_was_added() -> None:
    seen = TransitionCounts(3, 2, held_out_fraction=0.25, seed=0)
    for index in range(40):
        seen.add(index % 2, 1, 1.5, 2, terminated=index % 4 == 0)
        assert abs(seen.held_out.sum() - 0.25 * len(seen)) < 1
    assert len(seen) == 40
    assert seen.counts[0, 1, 2] == seen.counts[1, 1, 2] == seen.visits[0, 1] == 20
    assert seen.reward_sums[1, 1, 2] == 30
    assert seen.terminations[0, 1, 2] == 10
    assert (seen.held_out <= seen.counts).all()
    again = TransitionCounts(3, 2, held_out_fraction=0.25, seed=9)
    again.load_state_dict(seen.state_dict())
    for each in (seen, again):
        for _ in range(20):
            each.add(2, 0, 0.0, 1, terminated=False)
    for name in ("counts", "held_out", "reward_sums", "terminations", "visits"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(again, name))
    with pytest.raises(CheckpointError, match=r"shape \[3, 2, 3\], .* \[2, 2, 2\]"):
        TransitionCounts(2, 2, 0.25, 0).load_state_dict(seen.state_dict())


@pytest.mark.parametrize("objective", EACH_OBJECTIVE, ids=repr)
def test_every_objective_gives_probabilities_that_are_right_in_the_end(
    objective: ObjectiveSettings,
) -> None:
    mdp = tables("FrozenLake-v1")
    probs, _ = learn_transitions(wander("FrozenLake-v1", 20_000), objective)
    np.testing.assert_allclose(probs.sum(axis=-1), 1.0)
    error = 0.5 * np.abs(probs - mdp.transition_table).sum(axis=-1).mean()
    consistent = isinstance(objective, CountsConfig | DirichletConfig) or (
        isinstance(objective, OneHotBilevelConfig) and objective.reward == "state_dependent"
    )
    # One beta for all distorts: it cannot tell rare classes from those that never happen.
    assert (error < 0.05) == consistent


def test_fixed_betas() -> None:
    seen = wander("Garnet-v0", 500)
    inner = seen.counts - seen.held_out
    shares = seen.counts / np.maximum(seen.visits, 1)[..., None]
    probs, _ = learn_transitions(seen, OneHotPGConfig(beta=3.0, temperature=2.0))
    np.testing.assert_allclose(probs, inner_solution(shares, 3.0, 2.0))
    class_shares = inner.sum(axis=(0, 1)) / inner.sum()
    beta = 20 / (2 * (1 - (class_shares**2).sum()))
    probs, _ = learn_transitions(seen, OneHotPGConfig(beta=None))
    np.testing.assert_allclose(probs, inner_solution(shares, beta, 1.0))


def test_the_likelihood_is_of_transitions_that_the_model_has_not_seen() -> None:
    seen = TransitionCounts(2, 1, held_out_fraction=0.5, seed=0)
    seen.counts[0, 0], seen.held_out[0, 0], seen.visits[0, 0] = [6, 2], [2, 1], 8
    _, metrics = learn_transitions(seen, CountsConfig())
    inner = np.array([4, 1]) / 5
    assert metrics["model/val_nll"] == pytest.approx(-np.log(inner) @ [2, 1] / 3)
    seen.counts[0, 0], seen.held_out[0, 0] = [6, 1], [2, 1]
    assert learn_transitions(seen, CountsConfig())[1]["model/val_nll"] == np.inf
    assert np.isfinite(learn_transitions(seen, OneHotBilevelConfig())[1]["model/val_nll"])


@pytest.mark.parametrize("objective", EACH_OBJECTIVE, ids=repr)
def test_nothing_seen_is_nothing_known(objective: ObjectiveSettings) -> None:
    probs, metrics = learn_transitions(TransitionCounts(4, 2, 0.2, 0), objective)
    np.testing.assert_allclose(probs, 0.25)
    assert metrics == {}


def test_rewards_and_terminations_of_what_was_seen_and_what_was_not() -> None:
    def add(seen: TransitionCounts, rows: list[tuple[int, int, float, int, bool]]) -> None:
        for row in rows:
            seen.add(*row)

    uniform = np.full((3, 2, 3), 1 / 3)
    begun = np.array([3, 1, 0])
    by_arrival = TransitionCounts(3, 2, 0.0, 0)
    add(by_arrival, [(0, 0, 5.0, 2, True), (0, 0, 0.0, 1, False), (1, 0, 0.0, 1, False)])
    mdp = learned_mdp(by_arrival, uniform, begun)
    assert mdp.reward_table[0, 0].tolist() == [0.0, 0.0, 5.0]
    assert mdp.reward_table[2, 1].tolist() == [0.0, 0.0, 5.0]
    assert mdp.termination_table[2, 1].tolist() == [0.0, 0.0, 1.0]
    assert mdp.initial_distribution.tolist() == [0.75, 0.25, 0.0]

    by_action = TransitionCounts(3, 2, 0.0, 0)
    add(by_action, [(0, 0, -1.0, 1, False), (0, 1, -9.0, 1, False), (2, 0, -1.0, 1, False)])
    mdp = learned_mdp(by_action, uniform, begun)
    assert mdp.reward_table[0, 1].tolist() == [-9.0, -9.0, -9.0]
    assert mdp.reward_table[1, 1].tolist() == [0.0, 0.0, 0.0]
