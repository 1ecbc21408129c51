"""Cases for outer objectives beyond the one-step likelihood, and for decays as outer parameters."""

import torch
from torch import Tensor

from mbrl_bilevel.bilevel import (
    BilevelProblem,
    ReturnError,
    ValueEquivalence,
    combined,
    held_out_nll,
    with_weight_decay,
)
from mbrl_bilevel.bilevel.problem import ObjectiveFn
from mbrl_bilevel.heads import DiagonalGaussianHead
from tests.gradients.cases import Case, Params

SIZE, NUM_STEPS = 2, 3
HEAD = DiagonalGaussianHead(SIZE)
WITH_REWARD = DiagonalGaussianHead(SIZE + 1)


def model_fn(theta: Params, x: Tensor) -> Tensor:
    """One slope for all dimensions, so that their weights matter, and a tanh of `(obs, action)`."""
    mean = theta["slope"] * torch.tanh(x @ theta["mix"])
    return torch.cat([mean, theta["log_var"].expand_as(mean)], dim=-1)


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Of all three arguments, and not linear."""
    return next_obs[:, 0].square() + obs[:, 1] * next_obs[:, 1] - 0.1 * action[:, 0].square()


def value_fn(obs: Tensor) -> Tensor:
    return torch.sin(obs[:, 0]) + 0.5 * obs.prod(dim=-1)


def trajectories(num: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """`obs [N, k + 1, D]`, `actions [N, k, 1]` and `rewards [N, k]`."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randn(num, NUM_STEPS, 1, generator=generator, dtype=torch.float64)
    obs = [torch.randn(num, SIZE, generator=generator, dtype=torch.float64)]
    rewards = []
    for t in range(NUM_STEPS):
        noise = 0.2 * torch.randn(num, SIZE, generator=generator, dtype=torch.float64)
        change = torch.stack([-0.5 * obs[-1][:, 0] + actions[:, t, 0], 0.3 * obs[-1][:, 0]], dim=1)
        obs.append(obs[-1] + change + noise)
        rewards.append(reward_fn(obs[-2], actions[:, t], obs[-1]))
    return torch.stack(obs, dim=1), actions, torch.stack(rewards, dim=1)


def outer_objective(kind: str) -> ObjectiveFn:
    """An objective of held-out trajectories, by its name."""
    obs, actions, rewards = trajectories(12, seed=1)
    if kind == "return_mean":
        return ReturnError(model_fn, HEAD, obs, actions, reward_fn, discount=0.9, normalise=True)
    if kind == "return_particles":
        return ReturnError(
            model_fn, HEAD, obs, actions, reward_fn, rewards, last_only=True, num_particles=4
        )
    if kind == "return_learned_reward":
        return ReturnError(model_fn, WITH_REWARD, obs, actions, None, rewards, num_particles=3)
    if kind == "value":
        return ValueEquivalence(model_fn, HEAD, obs, actions, value_fn, num_particles=3)
    assert kind == "combined"
    x = torch.cat([obs[:, :-1], actions], dim=-1).flatten(0, 1)
    change = (obs[:, 1:] - obs[:, :-1]).flatten(0, 1)
    nll = held_out_nll(model_fn, HEAD, (x, change))
    value = ValueEquivalence(model_fn, HEAD, obs, actions, value_fn, normalise=True)
    return combined({"nll": (0.3, nll), "value": (2.0, value)})


def outer_case(kind: str) -> Case:
    """A diagonal U of a Gaussian's errors and a decay, for an outer objective."""
    obs, actions, rewards = trajectories(20, seed=0)
    x = torch.cat([obs[:, :-1], actions], dim=-1).flatten(0, 1)
    y = (obs[:, 1:] - obs[:, :-1]).flatten(0, 1)
    size = SIZE
    if kind == "return_learned_reward":
        size, y = SIZE + 1, torch.cat([y, rewards.flatten()[:, None]], dim=1)
    head = DiagonalGaussianHead(size)

    def loss(theta: Params, phi: Params) -> Tensor:
        outputs = model_fn(theta, x)
        errors = (head.mean(outputs) - y).square() + head.log_var(outputs).exp()
        return ((phi["log_u"].exp() * errors).sum(dim=-1) - head.entropy(outputs)).mean()

    generator = torch.Generator().manual_seed(2)
    start = {
        "slope": torch.ones(1, dtype=torch.float64),
        "mix": 0.3 * torch.randn(3, size, generator=generator, dtype=torch.float64),
        "log_var": torch.zeros(size, dtype=torch.float64),
    }
    inner, log_decays = with_weight_decay(
        loss, start, {"slope": "shared", "mix": "shared"}, initial=0.3
    )
    log_u = torch.linspace(0.3, -0.4, size, dtype=torch.float64)
    problem = BilevelProblem(inner, outer_objective(kind))
    return Case(f"outer_{kind}", problem, start, {"log_u": log_u, **log_decays})


def decay_case() -> Case:
    """A number for each kind of group: a column, a row, a tensor and what is shared."""
    generator = torch.Generator().manual_seed(3)
    options = {"generator": generator, "dtype": torch.float64}
    x, x_val = torch.randn(40, 3, **options), torch.randn(20, 3, **options)  # type: ignore[call-overload]
    start = {
        "first": torch.randn(2, 3, **options),  # type: ignore[call-overload]
        "bias": torch.zeros(2, dtype=torch.float64),
        "second": torch.randn(2, 2, **options),  # type: ignore[call-overload]
        "skip": torch.zeros(2, 3, dtype=torch.float64),
        "offset": torch.zeros(2, dtype=torch.float64),
    }

    def error(theta: Params, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(inputs @ theta["first"].mT + theta["bias"])
        outputs = hidden @ theta["second"].mT + inputs @ theta["skip"].mT + theta["offset"]
        target = torch.stack([inputs[:, 0] * inputs[:, 1], inputs[:, 2].tanh()], dim=1)
        return (outputs - target).square().mean()

    inner, log_decays = with_weight_decay(
        lambda theta, _: error(theta, x),
        start,
        {
            "first": "column",
            "bias": "shared",
            "second": "row",
            "skip": "tensor",
            "offset": "shared",
        },
        initial=0.3,
    )
    log_decays = {
        name: value + torch.linspace(-0.5, 0.5, value.numel(), dtype=value.dtype).view_as(value)
        for name, value in log_decays.items()
    }
    return Case(
        "decays", BilevelProblem(inner, lambda theta, _: error(theta, x_val)), start, log_decays
    )


OUTER_CASES = (
    outer_case("return_mean"),
    outer_case("return_particles"),
    outer_case("return_learned_reward"),
    outer_case("value"),
    outer_case("combined"),
    decay_case(),
)
