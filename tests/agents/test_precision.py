"""Plans made with bfloat16 products, judged in float32."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from mbrl_agents.planning import (
    CEMConfig,
    ICEMConfig,
    MPPIConfig,
    TrajectorySampler,
    make_planner,
)
from mbrl_agents.planning.config import AnyPlannerConfig
from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.config import ModelConfig, NLLConfig, Precision
from mbrl_bilevel.data import ActionCodec, ReplayBuffer
from mbrl_bilevel.dynamics import DynamicsModel, ModelTrainer

NUM_STATES = 100
SEARCHES: dict[str, AnyPlannerConfig] = {
    "cem": CEMConfig(horizon=12, population_size=40, num_iterations=3, num_elites=6),
    "icem": ICEMConfig(horizon=12, population_size=40, num_iterations=3, num_elites=6),
    "mppi": MPPIConfig(horizon=12, population_size=40, num_iterations=3),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def fitted() -> tuple[DynamicsModel, Tensor]:
    """A pendulum's model after a second of fitting, and recorded states."""
    env = gym.make("Pendulum-v1")
    env.action_space.seed(0)
    codec = ActionCodec(env.action_space)
    buffer = ReplayBuffer(3, codec.flat_shape, 0.2, 0)
    obs, _ = env.reset(seed=0)
    for _ in range(800):
        action = env.action_space.sample()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        buffer.add(obs, action, float(reward), next_obs, terminated, truncated)
        obs = env.reset()[0] if truncated else next_obs
    config = ModelConfig(ensemble_size=2, hidden_sizes=[96, 96], num_updates=300)
    model = DynamicsModel(
        3,
        codec,
        config,
        make_objective(NLLConfig(), 2, 4),
        learns_reward=True,
        learns_termination=False,
        generator=generator(),
    )
    ModelTrainer(model, config, seed=0).fit(buffer.training(), buffer.held_out(), generator())
    rows = np.random.default_rng(0).choice(800, NUM_STATES, replace=False)
    return model, torch.as_tensor(buffer.all().obs[rows])


def judge(model: DynamicsModel, precision: Precision) -> TrajectorySampler:
    return TrajectorySampler(model, None, None, 4, "ts1", precision=precision)


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_bfloat16_costs_less_than_a_hundredth_of_the_predicted_return(
    name: str, fitted: tuple[DynamicsModel, Tensor]
) -> None:
    model, states = fitted
    planner = make_planner(SEARCHES[name], model.codec, torch.device("cpu"))

    def predicted(precision: Precision) -> tuple[Tensor, Tensor]:
        sampler, gen = judge(model, precision), generator()
        plan, _ = planner.plan(
            lambda plans: sampler.returns(states, plans, gen),
            planner.initial_state(NUM_STATES),
            gen,
        )
        exact = judge(model, "float32").returns(states, plan[:, None], generator(1))
        return plan, exact.mean()

    (plan, exact), (rounded_plan, rounded) = predicted("float32"), predicted("bfloat16")
    assert not torch.equal(plan, rounded_plan)
    idle = judge(model, "float32").returns(states, 0 * plan[:, None], generator(1)).mean()
    assert exact > idle + 0.05 * idle.abs()  # there was something to plan for
    assert rounded > exact - 0.01 * exact.abs()


def test_returns_in_bfloat16_are_float32_and_reproducible(
    fitted: tuple[DynamicsModel, Tensor],
) -> None:
    model, states = fitted
    plans = torch.rand(NUM_STATES, 40, 12, 1, generator=generator(2)) * 2 - 1
    first, second, exact = (
        judge(model, precision).returns(states, plans, generator())
        for precision in ("bfloat16", "bfloat16", "float32")
    )
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    error = (first - exact).std() / exact.std()
    assert 1e-5 < error < 0.03


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValidationError, match="'auto', 'float32' or 'bfloat16'"):
        CEMConfig(precision="float16")  # type: ignore[arg-type]
