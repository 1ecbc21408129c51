"""Errors of returns and values against plain loops, and what the objectives refuse."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import ReturnError, ValueEquivalence, combined, with_weight_decay
from mbrl_bilevel.bilevel.problem import ParamDict
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import CategoricalHead, DiagonalGaussianHead
from tests.gradients.outer_cases import HEAD, WITH_REWARD, model_fn, reward_fn, value_fn
from tests.gradients.outer_cases import trajectories as recorded

NUM, STEPS, SIZE = 4, 3, 2


def params(size: int = SIZE) -> ParamDict:
    generator = torch.Generator().manual_seed(5)
    return {
        "slope": torch.tensor([0.7], dtype=torch.float64),
        "mix": torch.randn(3, size, generator=generator, dtype=torch.float64),
        "log_var": torch.linspace(-2.0, -1.0, size, dtype=torch.float64),
    }


def plain_rollout(
    theta: ParamDict, obs: Tensor, actions: Tensor, noise: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """One particle of one trajectory: its states `k + 1` of `[D]`, what was drawn beside them."""
    states, drawn = [obs[0]], []
    for t in range(STEPS):
        mean, log_var = model_fn(theta, torch.cat([states[-1], actions[t]])[None])[0].chunk(2)
        sample = mean + (log_var / 2).exp() * noise[t]
        states.append(states[-1] + sample[:SIZE])
        drawn.append(sample[SIZE:])
    return states, drawn


@pytest.mark.parametrize("num_particles", [None, 1, 3])
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_the_return_error_equals_a_plain_loop(
    num_particles: int | None, last_only: bool, normalise: bool, learned: bool
) -> None:
    obs, actions, rewards = recorded(NUM, seed=0)
    head, theta = (WITH_REWARD, params(SIZE + 1)) if learned else (HEAD, params())
    objective = ReturnError(
        model_fn,
        head,
        obs,
        actions,
        None if learned else reward_fn,
        rewards if learned else None,
        discount=0.8,
        last_only=last_only,
        normalise=normalise,
        num_particles=num_particles,
        seed=4,
    )
    noise = objective.rollouts.noise
    assert (noise == 0).all() == (num_particles is None)
    losses = []
    for j in [STEPS] if last_only else range(1, STEPS + 1):
        true = torch.stack(
            [
                sum((0.8 ** (i + 1) * rewards[n, i] for i in range(j)), 0 * obs[0, 0, 0])
                for n in range(NUM)
            ]
        )
        scale = (true - true.mean()).square().mean() if normalise else torch.ones(())
        for n in range(NUM):
            returns = []
            for p in range(objective.rollouts.num_particles):
                states, drawn = plain_rollout(theta, obs[n], actions[n], noise[:, p, n])
                total = 0 * obs[0, 0, 0]
                for i in range(j):
                    exact = reward_fn(states[i][None], actions[n, i][None], states[i + 1][None])[0]
                    total = total + 0.8 ** (i + 1) * (drawn[i][0] if learned else exact)
                returns.append(total)
            losses.append((torch.stack(returns).mean() - true[n]).square() / scale)
    torch.testing.assert_close(objective(theta, {}), torch.stack(losses).mean())


@pytest.mark.parametrize("num_particles", [None, 3])
@pytest.mark.parametrize("last_only", [False, True])
def test_value_equivalence_equals_a_plain_loop(num_particles: int | None, last_only: bool) -> None:
    obs, actions, _ = recorded(NUM, seed=0)
    objective = ValueEquivalence(
        model_fn, HEAD, obs, actions, value_fn, last_only, num_particles=num_particles
    )
    noise, losses = objective.rollouts.noise, []
    for n in range(NUM):
        rollouts = [
            plain_rollout(params(), obs[n], actions[n], noise[:, p, n])[0]
            for p in range(objective.rollouts.num_particles)
        ]
        for t in [STEPS] if last_only else range(1, STEPS + 1):
            predicted = torch.stack([value_fn(states[t][None])[0] for states in rollouts]).mean()
            losses.append((predicted - value_fn(obs[n, t][None])[0]).square())
    torch.testing.assert_close(objective(params(), {}), torch.stack(losses).mean())


def test_normalised_errors_have_no_unit() -> None:
    obs, actions, rewards = recorded(NUM, seed=0)

    def error(scale: float) -> Tensor:
        return ReturnError(
            model_fn,
            HEAD,
            obs,
            actions,
            lambda *transition: scale * reward_fn(*transition),
            scale * rewards,
            normalise=True,
        )(params(), {})

    torch.testing.assert_close(error(1.0), error(1000.0))


def test_near_the_truth_it_is_the_error_weighted_by_the_returns_gradient() -> None:
    """`e^T E[g g^T] e` for one step and a constant error e of the prediction."""
    obs, actions, _ = recorded(200, seed=0)
    obs, actions = obs[:, :2], actions[:, :1]
    error = torch.tensor([1e-4, -2e-4], dtype=torch.float64)
    next_obs = obs[:, 1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reward_fn(obs[:, 0], actions[:, 0], next_obs).sum(), next_obs)
    expected = error @ (gradient.mT @ gradient / len(obs)) @ error
    objective = ReturnError(
        lambda _, x: torch.cat([x[:, :2] + error, torch.zeros_like(x[:, :2])], dim=-1),
        HEAD,
        obs,
        actions,
        reward_fn,
        step_fn=lambda predict, _obs, _action: predict(obs[:, 1]),
    )
    torch.testing.assert_close(objective({}, {}), expected, rtol=1e-3, atol=0)


def return_error(**changes: Any) -> ReturnError:
    obs, actions, rewards = recorded(NUM, seed=0)
    settings = {"head": HEAD, "obs": obs, "actions": actions, "rewards": rewards, **changes}
    settings.setdefault("reward_fn", reward_fn)
    return ReturnError(model_fn, **settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"discount": 0.0}, r"discount=0.0; it must lie in \(0, 1\]"),
        ({"discount": 1.1}, "discount=1.1"),
        ({"num_particles": 0}, "num_particles=0; it must be at least 1"),
        ({"head": CategoricalHead(2)}, "needs a Gaussian head, not head 'categorical'"),
        ({"reward_fn": None, "head": WITH_REWARD, "rewards": None}, "rewards is None and so is"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        return_error(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": torch.zeros(NUM, STEPS + 1)}, r"rewards has shape \[4, 4\]; .* \[4, 3\]"),
        ({"rewards": torch.full((NUM, STEPS), math.nan)}, "rewards holds nan"),
        ({"rewards": torch.full((NUM, STEPS), 0.1), "normalise": True}, "returns do not vary"),
        ({"head": DiagonalGaussianHead(3)}, "the head has 3 dimensions"),
        ({"reward_fn": None}, "the head has 2 dimensions; one of them must be the reward"),
        (
            {"reward_fn": lambda *transition: transition[2], "rewards": None},
            r"\[12, 2\]; it must return \[12\]",
        ),
    ],
)
def test_unfit_data(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        return_error(**changes)


def test_a_reward_or_value_of_another_shape() -> None:
    objective = return_error(reward_fn=lambda *transition: transition[2])
    with pytest.raises(ValueError, match=r"reward_fn returned shape \[4, 2\]; .* \[B\]"):
        objective(params(), {})
    obs, actions, _ = recorded(NUM, seed=0)
    with pytest.raises(ValueError, match=r"value_fn returned shape \[12, 2\]; .* \[12\]"):
        ValueEquivalence(model_fn, HEAD, obs, actions, lambda obs: obs)


def test_a_sum_of_objectives() -> None:
    theta = {"a": torch.tensor(3.0)}
    total = combined(
        {"a": (2.0, lambda inner, _: inner["a"]), "b": (0.5, lambda _, outer: outer["b"])}
    )
    assert total(theta, {"b": torch.tensor(8.0)}) == 2.0 * 3.0 + 0.5 * 8.0
    with pytest.raises(ConfigError, match="terms is empty"):
        combined({})
    for weight in (-1.0, math.nan):
        with pytest.raises(ConfigError, match=f"the weight of 'a' is {weight}"):
            combined({"a": (weight, total)})
    with pytest.raises(ValueError, match=r"'a' returned shape \[2\]"):
        combined({"a": (1.0, lambda _, __: torch.zeros(2))})({}, {})


def test_weight_decay_of_every_kind_of_group() -> None:
    theta = {
        "w": torch.arange(6.0).view(2, 3),
        "v": torch.tensor([[1.0, -2.0], [3.0, 0.5]]),
        "b": torch.tensor([1.0, 2.0]),
        "c": torch.tensor([4.0]),
        "free": torch.tensor([9.0]),
    }
    objective, log_decays = with_weight_decay(
        lambda inner, outer: inner["free"].sum() + outer["reward"],
        theta,
        {"w": "column", "v": "row", "b": "shared", "c": "shared"},
        initial=0.5,
    )
    shapes = {name: list(value.shape) for name, value in log_decays.items()}
    assert shapes == {"log_decay.w": [3], "log_decay.v": [2], "log_decay": []}
    for value in log_decays.values():
        torch.testing.assert_close(value.exp(), torch.full_like(value, 0.5))
    log_decays["log_decay.w"] = torch.tensor([1.0, 10.0, 100.0]).log()
    log_decays["log_decay.v"] = torch.tensor([2.0, 3.0]).log()
    columns = 1.0 * 9.0 + 10.0 * (1 + 16) + 100.0 * (4 + 25)
    rows = 2.0 * 5.0 + 3.0 * 9.25
    expected = 9.0 + 7.0 + 0.5 * (columns + rows + 0.5 * (5 + 16))
    found = objective(theta, {"reward": torch.tensor(7.0), **log_decays})
    torch.testing.assert_close(found, torch.tensor(expected))
    with pytest.raises(ValueError, match=r"outer_params lacks \['log_decay', 'log_decay.v'"):
        objective(theta, {"reward": torch.tensor(7.0)})


def test_weight_decay_of_one_kind_for_all() -> None:
    theta = {"w": torch.ones(2, 3), "b": torch.ones(2)}
    _, shared = with_weight_decay(lambda _, __: torch.zeros(()), theta)
    assert list(shared) == ["log_decay"]
    _, own = with_weight_decay(lambda _, __: torch.zeros(()), theta, "tensor")
    assert list(own) == ["log_decay.w", "log_decay.b"]


@pytest.mark.parametrize(
    ("groups", "initial", "message"),
    [
        ({"x": "tensor"}, 1.0, "groups names 'x'; inner_params are b, w"),
        ({"w": "col"}, 1.0, r"groups\['w'\]='col'; allowed: shared, tensor, row, column"),
        ("column", 1.0, r"groups\['b'\]='column' is for matrices, and its shape is \[2\]"),
        ({}, 1.0, "groups is empty"),
        ("shared", 0.0, "initial=0.0; it must be positive"),
    ],
)
def test_impossible_decays(groups: Any, initial: float, message: str) -> None:
    theta = {"w": torch.ones(2, 3), "b": torch.ones(2)}
    with pytest.raises(ConfigError, match=message):
        with_weight_decay(lambda _, __: torch.zeros(()), theta, groups, initial)


def test_what_may_not_be_differentiated_twice_says_so_still() -> None:
    class Surrogate:
        twice_differentiable = False
        reason = "detached samples"

        def __call__(self, inner_params: ParamDict, outer_params: ParamDict) -> Tensor:
            del outer_params
            return inner_params["w"].sum()

    decayed, _ = with_weight_decay(Surrogate(), {"w": torch.ones(2)})
    total = combined({"surrogate": (1.0, Surrogate())})
    for objective in (decayed, total):
        assert not objective.twice_differentiable  # type: ignore[attr-defined]
        assert "detached samples" in objective.reason  # type: ignore[attr-defined]


def test_particles_add_their_variance_over_their_number() -> None:
    obs, actions = torch.zeros(20_000, 2, SIZE), torch.zeros(20_000, 1, 1)
    variance, num_particles = 0.25, 4

    def error(num_particles: int | None) -> Tensor:
        return ReturnError(
            lambda _, x: torch.cat([0 * x[:, :2] + 0.5, 0 * x[:, :2] + math.log(variance)], dim=-1),
            HEAD,
            obs,
            actions,
            lambda _obs, _action, next_obs: next_obs[:, 0],
            num_particles=num_particles,
        )({}, {})

    torch.testing.assert_close(error(None), torch.tensor(0.25))
    expected = torch.tensor(0.25 + variance / num_particles)
    torch.testing.assert_close(error(num_particles), expected, rtol=0.02, atol=0)
