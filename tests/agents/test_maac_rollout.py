"""Rollouts that gradients flow through: when they end, what they are worth, and by which model."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_agents.maac.dynamics import DifferentiableModel
from mbrl_agents.maac.rollout import Rollout, roll_out, soft_returns
from mbrl_agents.maac.soft_actor_critic import imagined_transitions
from mbrl_bilevel.data import ActionCodec


def policy(obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Acts by the noise, tells its sum as the log-probability."""
    return 0 * obs[:, :1] + noise, noise.sum(dim=-1)


def add(obs: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Adds action and noise; pays where it arrives; ends above 10."""
    next_obs = obs + action + noise
    return next_obs, next_obs[:, 0], next_obs[:, 0] > 10


def rolled(starts: list[float], action_noise: Tensor, model_noise: Tensor) -> Rollout:
    return roll_out(torch.tensor(starts)[:, None], policy, add, action_noise, model_noise)


def test_a_rollout_follows_policy_and_dynamics() -> None:
    rollout = rolled([1.0], torch.tensor([[[2.0]], [[3.0]], [[4.0]]]), torch.full((2, 1, 1), 0.5))
    assert [obs.item() for obs in rollout.obs] == [1.0, 3.5, 7.0]
    assert [action.item() for action in rollout.action] == [2.0, 3.0, 4.0]
    assert [reward.item() for reward in rollout.reward] == [3.5, 7.0]


def test_the_return_by_hand() -> None:
    rollout = rolled([1.0], torch.tensor([[[2.0]], [[3.0]], [[4.0]]]), torch.full((2, 1, 1), 0.5))
    found = soft_returns(rollout, torch.tensor([20.0]), ent_coef=0.1, discount=0.5)
    assert found.item() == pytest.approx((3.5 - 0.2) + 0.5 * (7.0 - 0.3) + 0.25 * (20.0 - 0.4))


def test_nothing_counts_after_the_end() -> None:
    """The first trajectory ends in its first step, the second in its second, the third never."""
    rollout = rolled([9.0, 7.0, 0.0], torch.full((3, 3, 1), 2.0), torch.zeros(2, 3, 1))
    assert [alive.tolist() for alive in rollout.alive] == [
        [True, True, True],
        [False, True, True],
        [False, False, True],
    ]
    found = soft_returns(rollout, torch.full((3,), 100.0), ent_coef=0.0, discount=1.0)
    assert found.tolist() == [11.0, 9.0 + 11.0, 2.0 + 4.0 + 100.0]


def test_what_a_model_predicts_beyond_the_end_reaches_no_gradient() -> None:
    def explode(obs: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two such steps from above 1 would overflow."""
        del noise
        ended = obs[:, 0] > 1
        return torch.where(ended[:, None], obs * 1e30, obs + action), obs[:, 0], ended

    start = torch.tensor([[2.0], [0.0]], requires_grad=True)
    rollout = roll_out(start, policy, explode, torch.zeros(4, 2, 1), torch.zeros(3, 2, 1))
    total = soft_returns(rollout, rollout.obs[-1][:, 0].square(), 0.1, 0.5)
    (gradient,) = torch.autograd.grad(total.sum(), start)
    assert total.tolist() == [2.0, 0.0]
    assert gradient[:, 0].tolist() == [1.0, 1.75]


def test_no_steps_leave_the_value_and_the_entropy() -> None:
    rollout = rolled([1.0, 2.0], torch.tensor([[[2.0], [3.0]]]), torch.zeros(0, 2, 1))
    found = soft_returns(rollout, torch.tensor([5.0, 6.0]), ent_coef=0.5, discount=0.9)
    assert found.tolist() == [4.0, 4.5]


def test_imagined_transitions_stop_at_the_end() -> None:
    rollout = rolled([9.0, 0.0], torch.full((3, 2, 1), 2.0), torch.zeros(2, 2, 1))
    batch = imagined_transitions(rollout)
    assert batch.observations[:, 0].tolist() == [9.0, 0.0, 2.0]
    assert batch.actions[:, 0].tolist() == [2.0, 2.0, 2.0]
    assert batch.rewards[:, 0].tolist() == [11.0, 2.0, 4.0]
    assert batch.next_observations[1:, 0].tolist() == [2.0, 4.0]  # the first is not asked for
    assert batch.dones[:, 0].tolist() == [1.0, 0.0, 0.0]


# the members


class Members:
    """P members, of which the p-th adds 10 p and the action, and pays 100 p and the action."""

    def __init__(self, indices: Tensor) -> None:
        self.indices = indices.float()[:, None]

    def step(self, obs: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        assert len(obs) == len(self.indices)
        next_obs = obs + 10 * self.indices[..., None] + action + noise
        return next_obs, 100 * self.indices + action[..., 0]


def fake_model(elites: list[int]) -> Any:
    return SimpleNamespace(
        elite_indices=torch.tensor(elites), members=Members, termination=None, codec=CODEC
    )


CODEC = ActionCodec(spaces.Box(-2.0, 2.0, (1,)))


@pytest.mark.parametrize(
    ("num_rows", "members"),
    [(1, [1]), (2, [1, 2]), (4, [1, 1, 2, 2]), (5, [1, 1, 2, 2, 4]), (7, [1, 1, 1, 2, 2, 2, 4])],
)
def test_each_trajectory_keeps_its_member(num_rows: int, members: list[int]) -> None:
    dynamics = DifferentiableModel(fake_model([1, 2, 4]), None, None)
    noise = torch.zeros(num_rows, 1)
    rollout = roll_out(
        torch.zeros(num_rows, 1),
        policy,
        dynamics,
        torch.zeros(3, num_rows, 1),
        noise.expand(2, -1, -1),
    )
    assert rollout.obs[1][:, 0].tolist() == [10.0 * m for m in members]
    assert rollout.obs[2][:, 0].tolist() == [20.0 * m for m in members]
    assert rollout.reward[1].tolist() == [100.0 * m for m in members]


def test_exact_functions_get_the_environments_actions() -> None:
    def reward_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        return obs[:, 0] + action[:, 0] + next_obs[:, 0]

    def termination_fn(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        del obs, next_obs
        return action[:, 0] > 0.9

    dynamics = DifferentiableModel(fake_model([1]), reward_fn, termination_fn)
    obs, action = torch.tensor([[3.0], [3.0]]), torch.tensor([[0.5], [0.25]])
    _, reward, terminated = dynamics(obs, action, torch.zeros(2, 1))
    assert reward.tolist() == [3.0 + 1.0 + 13.5, 3.0 + 0.5 + 13.25]
    assert terminated.tolist() == [True, False]
