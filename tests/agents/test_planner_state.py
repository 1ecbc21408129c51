import pytest
import torch
from gymnasium import spaces

from mbrl_agents.planning import (
    CEMConfig,
    ICEMConfig,
    MPPIConfig,
    Planner,
    PlannerState,
    RandomShootingConfig,
    make_planner,
)
from mbrl_agents.planning.config import AnyPlannerConfig
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.evaluation.episodes import BatchState


def numbered_state() -> PlannerState:
    """Five observations, horizon 3, action size 2, two elites."""
    center = torch.arange(5.0)[:, None, None].expand(5, 3, 2)
    elites = 10 + torch.arange(5.0)[:, None, None, None].expand(5, 2, 3, 2)
    return PlannerState(center, elites, step=4)


def test_select_takes_rows_by_index_or_mask() -> None:
    state = numbered_state()
    by_index = state.select(torch.tensor([0, 3]))
    assert by_index.center.shape == (2, 3, 2)
    assert by_index.center[:, 0, 0].tolist() == [0.0, 3.0]
    assert by_index.elites.shape == (2, 2, 3, 2)
    assert by_index.elites[:, 0, 0, 0].tolist() == [10.0, 13.0]
    assert by_index.step == 4
    by_mask = state.select(torch.tensor([True, False, False, True, False]))
    assert torch.equal(by_mask.center, by_index.center)
    assert torch.equal(by_mask.elites, by_index.elites)


def test_the_evaluation_takes_it_for_the_state_of_a_batch() -> None:
    assert isinstance(numbered_state(), BatchState)


@pytest.fixture(params=["cem", "icem", "mppi", "random_shooting"])
def config(request: pytest.FixtureRequest) -> AnyPlannerConfig:
    configs: dict[str, AnyPlannerConfig] = {
        "cem": CEMConfig(horizon=3, population_size=12, num_elites=4),
        "icem": ICEMConfig(horizon=3, population_size=12, num_elites=4, kept_elites=0.5),
        "mppi": MPPIConfig(horizon=3, population_size=12),
        "random_shooting": RandomShootingConfig(horizon=3, population_size=12),
    }
    return configs[request.param]


@pytest.fixture(params=["box", "discrete"])
def planner(request: pytest.FixtureRequest, config: AnyPlannerConfig) -> Planner:
    space = spaces.Box(-1.0, 1.0, (2,)) if request.param == "box" else spaces.Discrete(3)
    return make_planner(config, ActionCodec(space), torch.device("cpu"))


def used_state(planner: Planner, batch_size: int) -> PlannerState:
    _, state = planner.plan(
        lambda plans: plans[..., 0].sum(dim=-1),
        planner.initial_state(batch_size),
        torch.Generator().manual_seed(0),
    )
    return state


def test_restart_makes_the_marked_rows_new_and_leaves_the_others(planner: Planner) -> None:
    state, fresh = used_state(planner, 3), planner.initial_state(3)
    restarted = state.restart(torch.tensor([False, True, False]), fresh)
    for name in ("center", "elites"):
        before, after, new = (getattr(s, name) for s in (state, restarted, fresh))
        assert torch.equal(after[1], new[1])
        assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert restarted.step == state.step


def test_restart_of_all_rows_is_a_new_state(planner: Planner) -> None:
    fresh = planner.initial_state(2)
    restarted = used_state(planner, 2).restart(torch.tensor([True, True]), fresh)
    assert torch.equal(restarted.center, fresh.center)
    assert torch.equal(restarted.elites, fresh.elites)
    assert restarted.step == 0


def test_restart_of_no_row_changes_nothing(planner: Planner) -> None:
    state = used_state(planner, 2)
    restarted = state.restart(torch.tensor([False, False]), planner.initial_state(2))
    assert torch.equal(restarted.center, state.center)
    assert torch.equal(restarted.elites, state.elites)
    assert restarted.step == state.step == 1
