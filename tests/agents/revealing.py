"""A model that reveals who moved whom, and the returns of its particles in a plain loop."""

import math
from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.planning import Propagation, TrajectorySampler
from mbrl_bilevel.data import ActionCodec
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.types import RewardFn, TerminationFn

HORIZON = 5
ELITES = [1, 3, 4]
NOISE_SCALE = 0.3
PROPAGATIONS: list[Propagation] = ["ts1", "tsinf", "mean"]


class RevealingModel:
    """Moves `(trail, position)` to `(10 trail + member, position + action + scaled noise)`.

    The digits of the trail are the members that moved a particle; positions tell particles apart.
    Beyond `edge` there is nothing but nan. The learned reward is the position before the step.
    """

    obs_size = 2

    def __init__(self, codec: ActionCodec, edge: float = math.inf) -> None:
        self.codec = codec
        self.elite_indices = torch.tensor(ELITES)
        self.edge = edge
        self.termination: Any = None
        self.rows = torch.zeros(0)
        self.calls: list[tuple[Tensor, Tensor, Tensor | None, Tensor]] = []

    def members(self, indices: Tensor) -> "RevealingModel":
        self.rows = indices
        self.calls = []
        return self

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        trail = 10 * obs[..., 0] + self.rows[:, None]
        position = obs[..., 1] + action[..., 0]
        if noise is not None:
            position = position + NOISE_SCALE * noise[..., 1]
        next_obs = torch.stack([trail, position], dim=-1)
        next_obs = next_obs.where(obs[..., 1:] <= self.edge, torch.nan)
        self.calls.append((obs.clone(), action.clone(), noise, next_obs.clone()))
        return next_obs, obs[..., 1]


def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Depends on all three, and on the member."""
    return obs[..., 1] - action[..., 0] + 0.3 * next_obs[..., 1] + next_obs[..., 0] % 10


def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    del obs, action
    return next_obs[..., 1] > 1.0


def sampler(
    model: object,
    num_particles: int,
    propagation: Propagation,
    reward_fn: RewardFn | None = reward_fn,
    termination_fn: TerminationFn | None = termination_fn,
) -> TrajectorySampler:
    return TrajectorySampler(
        cast(DynamicsModel, model), reward_fn, termination_fn, num_particles, propagation
    )


def box_model(edge: float = math.inf) -> RevealingModel:
    return RevealingModel(ActionCodec(spaces.Box(-2.0, 2.0, (1,))), edge)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start_and_plans(num_obs: int = 2, num_plans: int = 3) -> tuple[Tensor, Tensor]:
    gen = generator(9)
    obs = torch.rand(num_obs, 2, generator=gen, dtype=torch.float64)
    obs[:, 0] = 0.0
    plans = torch.rand(num_obs, num_plans, HORIZON, 1, generator=gen, dtype=torch.float64)
    return obs, 0.8 * plans - 0.3


def parents(model: RevealingModel, propagation: Propagation, t: int) -> list[int]:
    """Which row of step t - 1 each row of step t continues, told by the positions."""
    before, now = model.calls[t - 1][3], model.calls[t][0]
    rows = range(len(now))
    if propagation != "ts1":
        assert torch.equal(before, now)
        return list(rows)
    found = [[p for p in rows if torch.equal(before[p, 0], now[r, 0])] for r in rows]
    assert sorted(found) == [[r] for r in rows], "not a permutation of the particles"
    for r, (p,) in enumerate(found):
        assert torch.equal(before[p], now[r]), "the plans' particles were permuted differently"
    return [p for (p,) in found]


class ValueOfPosition:
    """What is worth ten times its position."""

    discount = 0.9

    def __call__(self, obs: Tensor) -> Tensor:
        return 10 * obs[..., 1]


def plain_returns(
    obs: Tensor,
    plans: Tensor,
    model: RevealingModel,
    propagation: Propagation,
    *,
    with_value: bool = False,
) -> Tensor:
    """Means of the particles' returns, one number at a time.

    From what was called, this takes the members, the noise and who continued whom; the rest it
    computes.
    """
    num_obs, num_plans, horizon, _ = plans.shape
    num_particles = len(model.rows)
    lineage = [list(range(num_particles))]
    lineage += [parents(model, propagation, t) for t in range(1, horizon)]
    returns = torch.zeros(num_obs, num_plans)
    discount = ValueOfPosition.discount if with_value else 1.0
    for b in range(num_obs):
        for c in range(num_plans):
            particles = [(0.0, obs[b, 1].item(), 0.0, True) for _ in range(num_particles)]
            for t in range(horizon):
                particles = [particles[p] for p in lineage[t]]
                action = plans[b, c, t, 0].item()
                noise = model.calls[t][2]
                moved = []
                for r, (trail, position, total, alive) in enumerate(particles):
                    member = int(model.rows[r])
                    shock = 0.0 if noise is None else NOISE_SCALE * noise[r, 0, 1].item()
                    next_trail, next_position = 10 * trail + member, position + action + shock
                    if alive:
                        # Actions reach the reward in the environment's units, twice the features.
                        gain = position - 2 * action + 0.3 * next_position + member
                        total += discount**t * gain
                    alive = alive and not next_position > 1.0
                    moved.append((next_trail, next_position, total, alive))
                particles = moved
            ends = [
                total + (discount**horizon * 10 * position if with_value and alive else 0.0)
                for _, position, total, alive in particles
            ]
            returns[b, c] = sum(ends) / num_particles
    return returns
