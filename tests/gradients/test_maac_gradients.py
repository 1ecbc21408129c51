"""MAAC's actor gradient against closed forms, Stable-Baselines3's SAC and finite differences."""

import copy
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from torch import Tensor
from torch.func import functional_call

from mbrl_agents.maac import MAAC
from mbrl_agents.maac.dynamics import DifferentiableModel
from mbrl_agents.maac.networks import ActorCritic
from mbrl_agents.maac.rollout import roll_out, soft_returns
from mbrl_agents.maac.soft_actor_critic import smallest_q, squashed_action
from mbrl_agents.policies import SpacesOnly, algorithm_state
from mbrl_envs.tasks import pendulum

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BATCH_SIZE = 32
SMALL_MODEL = {"ensemble_size": 3, "num_elite_members": 2, "hidden_sizes": [8], "num_updates": 40}


@pytest.fixture
def lqr(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("maac_gradient_variance")


# a linear system, where everything is known


@pytest.mark.parametrize("horizon", [1, 4, 20])
def test_estimates_are_unbiased_and_the_pathwise_one_has_little_variance(
    lqr: ModuleType, horizon: int
) -> None:
    system = lqr.two_masses()
    params = lqr.policy_params(system, share_of_best=0.5, std=0.1)
    report = lqr.measure(system, params, horizon, num_trajectories=4_000, seed=horizon)
    for name in lqr.ESTIMATES:
        # Of twelve standard normals, the largest is beyond 4.5 once in 12,000 times.
        assert report[name]["largest_z"] < 4.5, name
    assert report["score_constant"]["ratio"] >= 100
    assert report["score_value"]["ratio"] >= 5


@pytest.mark.parametrize("horizon", [1, 6])
def test_the_exact_gradient_vanishes_at_the_optimum(lqr: ModuleType, horizon: int) -> None:
    system = lqr.two_masses()
    best = lqr.policy_params(system, share_of_best=1.0, std=0.1)
    gradient = lqr.exact_gradient(system, best, horizon)[:-2]  # all but those of the noise
    elsewhere = lqr.policy_params(system, share_of_best=0.5, std=0.1)
    assert gradient.norm() < 1e-9 * lqr.exact_gradient(system, elsewhere, horizon).norm()


def test_moments_and_values_give_the_same_expected_return(lqr: ModuleType) -> None:
    """Forwards through the moments of states, and backwards through values of states."""
    system = lqr.two_masses()
    params = lqr.policy_params(system, share_of_best=0.5, std=0.3)
    root = torch.linalg.cholesky(system.start) * 2  # four states each way: the start's covariance
    starts = torch.cat([root.T, -root.T])
    rollout = lqr.Rollout((starts, *[starts] * 5), *([()] * 5))
    expected = lqr.values_to_go(system, params, rollout)[0].mean()
    torch.testing.assert_close(lqr.exact_objective(system, params, 5), expected)


# without the model


def test_without_model_steps_the_gradient_is_that_of_sb3s_sac() -> None:
    sac = filled_sac()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - Stable-Baselines3's
    actor = copy.deepcopy(sac.actor)  # as it was before its step; the critics' comes before it
    ent_coef = sac.log_ent_coef.detach().exp()
    sac.train(gradient_steps=1, batch_size=BATCH_SIZE)
    expected = [parameter.grad for parameter in sac.actor.parameters()]

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    batch = sac.replay_buffer.sample(BATCH_SIZE)
    noise = torch.normal(torch.zeros(BATCH_SIZE, 2), torch.ones(BATCH_SIZE, 2))
    rollout = roll_out(
        batch.observations,
        partial(squashed_action, actor),
        no_dynamics,
        noise[None],
        torch.zeros(0, BATCH_SIZE, 3),
    )
    final_value = smallest_q(sac.critic, rollout.obs[-1], rollout.action[-1])
    loss = -soft_returns(rollout, final_value, ent_coef, sac.gamma).mean()
    found = torch.autograd.grad(loss, list(actor.parameters()))
    assert max(gradient.abs().max().item() for gradient in expected) > 1e-2
    for gradient, known in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, known, rtol=1e-5, atol=1e-5)


def test_one_update_without_model_steps_leaves_the_networks_that_sb3_does() -> None:
    """Critics, actor, entropy coefficient and targets, in the same order."""
    sac = filled_sac()
    networks = ActorCritic(3, 2, {"net_arch": [16]}, seed=0, device=torch.device("cpu"))
    buffer = networks.state_dict()["replay_buffer"]
    networks.load_state_dict(algorithm_state(sac) | {"replay_buffer": buffer})
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    batch = sac.replay_buffer.sample(BATCH_SIZE)
    noises = [torch.normal(torch.zeros(BATCH_SIZE, 2), torch.ones(BATCH_SIZE, 2)) for _ in "ab"]
    agent = object.__new__(MAAC)  # its update alone, on the batch and the noise of the other
    agent.config = MAAC.config_class(horizon=0)
    agent.networks = networks
    agent.policy = partial(squashed_action, networks.actor)
    agent.metrics = {}
    agent._imagine = lambda start: roll_out(  # type: ignore[method-assign]
        start, agent.policy, no_dynamics, noises[0][None], torch.zeros(0, BATCH_SIZE, 3)
    )
    agent._noise = lambda *_: noises[1]  # type: ignore[method-assign]
    agent.codec = type("Codec", (), {"size": 2})()
    agent._learn_from(batch)

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    sac.train(gradient_steps=1, batch_size=BATCH_SIZE)
    ours, theirs = networks.algorithm.policy.state_dict(), sac.policy.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(networks.ent_coef, sac.log_ent_coef.detach().exp())


def no_dynamics(*_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    raise AssertionError("no step is to be taken")


def filled_sac() -> SAC:
    """An algorithm with an actor that has learned something, and transitions to learn from."""
    env = SpacesOnly(spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1.0, 1.0, (2,)))
    sac = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [16]}, buffer_size=64, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(64):
        obs, next_obs = rng.normal(size=(2, 1, 3)).astype(np.float32)
        action = rng.uniform(-1, 1, size=(1, 2)).astype(np.float32)
        done = rng.random(1) < 0.2
        sac.replay_buffer.add(obs, next_obs, action, rng.normal(size=1), done, [{}])
    sac.set_logger(Logger(None, []))
    sac.train(gradient_steps=20, batch_size=BATCH_SIZE)
    return sac


# through a learned model


@pytest.fixture(scope="module", params=["nll", "bilevel"])
def agent(request: pytest.FixtureRequest) -> MAAC:
    """An agent with a model that was fitted once, of states and rewards."""
    return MAAC(
        "Pendulum-v1",
        seed=3,
        objective=request.param,
        model=SMALL_MODEL,
        learning_starts=60,
        reward_fn=None,
        sac={"net_arch": [8], "batch_size": 16},
    ).learn(61)


def tiny_policy() -> torch.nn.Module:
    """Smooth, in double precision: inputs [N, 3], outputs mean and log-std."""
    generator = torch.Generator().manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    return network.double()


def returns_of(
    agent: MAAC, dtype: torch.dtype, *, learned_reward: bool, horizon: int
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Mean returns of seven trajectories by the policy's flat parameters, and parameters."""
    model = copy.deepcopy(agent.model).to(dtype)
    dynamics = DifferentiableModel(
        model, None if learned_reward else pendulum.reward_fn, pendulum.termination_fn
    )
    network = tiny_policy().to(dtype)
    shapes = {name: p.shape for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    start = torch.as_tensor(agent.buffer.all().obs[:7]).to(dtype)
    action_noise, model_noise = draw(horizon + 1, 7, 1), draw(horizon, 7, 3)

    def returns(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        params = {
            name: piece.reshape(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }

        def policy(obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_std = functional_call(network, params, (obs,)).chunk(2, dim=-1)
            action = torch.tanh(mean + log_std.exp() * noise)
            return action, -(log_std + torch.log(1 - action.square() + 1e-6)).sum(dim=-1)

        rollout = roll_out(start, policy, dynamics, action_noise, model_noise)
        value = -(rollout.obs[-1] - 0.5).square().sum(dim=-1) + rollout.action[-1][:, 0]
        return soft_returns(rollout, value, 0.1, 0.9).mean()

    return returns, torch.nn.utils.parameters_to_vector(network.parameters()).detach()


@pytest.mark.parametrize("learned_reward", [True, False])
@pytest.mark.parametrize("horizon", [1, 4])
def test_gradients_through_a_learned_model_are_those_of_central_differences(
    agent: MAAC, horizon: int, learned_reward: bool
) -> None:
    returns, flat = returns_of(agent, torch.float64, learned_reward=learned_reward, horizon=horizon)
    gradient = torch.func.grad(returns)(flat)
    step = 1e-6
    differences = [
        (returns(flat + step * unit) - returns(flat - step * unit)) / (2 * step)
        for unit in torch.eye(len(flat), dtype=torch.float64)
    ]
    # Differences of 1e-6 lose about 1e-16 / 1e-6 of what the returns (some -10) are made of.
    torch.testing.assert_close(gradient, torch.stack(differences), rtol=1e-6, atol=1e-7)
    assert gradient.norm() > 0.1


def test_single_precision_gives_the_gradient_of_double_precision(agent: MAAC) -> None:
    gradients = []
    for dtype in (torch.float32, torch.float64):
        returns, flat = returns_of(agent, dtype, learned_reward=True, horizon=4)
        gradients.append(torch.func.grad(returns)(flat).double())
    # Some hundred roundings of 6e-8, and sums that cancel to a tenth.
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def test_no_gradient_reaches_the_model(agent: MAAC) -> None:
    agent.model.zero_grad()
    start = torch.as_tensor(agent.buffer.all().obs[:7])
    noise = torch.zeros(3, 7, 1), torch.zeros(2, 7, 3)
    rollout = roll_out(start, agent.policy, agent.dynamics, *noise)
    torch.stack(rollout.reward).sum().backward()
    assert all(parameter.grad is None for parameter in agent.model.parameters())
    assert any(parameter.grad is not None for parameter in agent.networks.actor.parameters())
