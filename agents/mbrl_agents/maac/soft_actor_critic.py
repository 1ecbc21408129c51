"""What MAAC has of SAC: the policy's actions and the critics' loss, as functions of given noise."""

import math

import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.sac.policies import Actor
from torch import Tensor
from torch.nn import functional

from mbrl_agents.maac.rollout import Policy, Rollout

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
EPSILON = 1e-6
"""Keeps the logarithm of tanh's slope finite, as in Stable-Baselines3."""


def squashed_action(actor: Actor, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return actions `tanh(mean + std * noise)` in [-1, 1] and their log-probabilities.

    Shapes: obs `[N, D_obs]`, noise `[N, A]` -> `[N, A]` and `[N]`.
    """
    mean, log_std, _ = actor.get_action_dist_params(obs)
    action = torch.tanh(mean + log_std.exp() * noise)
    log_slope = torch.log(1 - action.square() + EPSILON)
    log_prob = (-0.5 * noise.square() - log_std - LOG_SQRT_2PI - log_slope).sum(dim=-1)
    return action, log_prob


def smallest_q(critic: ContinuousCritic, obs: Tensor, action: Tensor) -> Tensor:
    """Return the smallest of the critics' values of actions in states, `[N]`."""
    return torch.cat(critic(obs, action), dim=1).amin(dim=1)


@torch.no_grad()
def soft_targets(
    batch: ReplayBufferSamples,
    policy: Policy,
    target_critic: ContinuousCritic,
    noise: Tensor,
    ent_coef: Tensor | float,
    discount: float,
) -> Tensor:
    """Return `r + discount (min Q'(s', a') - ent_coef log pi(a' | s'))`, `[N]`; r at an end.

    Args:
        batch: N transitions.
        policy: Draws a'.
        target_critic: Q'.
        noise: Of the actions a', standard normal, `[N, A]`.
        ent_coef: The entropy coefficient.
        discount: Per step.
    """
    reward, terminated = batch.rewards[:, 0], batch.dones[:, 0] > 0
    next_action, log_prob = policy(batch.next_observations, noise)
    next_q = smallest_q(target_critic, batch.next_observations, next_action)
    next_value = torch.where(terminated, 0.0, next_q - ent_coef * log_prob)
    return reward + discount * next_value


def critic_loss(critic: ContinuousCritic, batch: ReplayBufferSamples, target: Tensor) -> Tensor:
    """Return half the mean squared errors to targets `[N]`, summed over the critics."""
    values = critic(batch.observations, batch.actions)
    return 0.5 * torch.stack([functional.mse_loss(q[:, 0], target) for q in values]).sum()


@torch.no_grad()
def imagined_transitions(rollout: Rollout) -> ReplayBufferSamples:
    """Return the steps of trajectories (H at least 1) up to their ends, without gradients."""
    alive = torch.cat(rollout.alive[:-1])
    columns = [rollout.obs[:-1], rollout.action[:-1], rollout.obs[1:]]
    obs, action, next_obs = (torch.cat(column).detach()[alive] for column in columns)
    terminated = torch.cat(rollout.terminated)[alive, None].float()
    reward = torch.cat(rollout.reward).detach()[alive, None]
    return ReplayBufferSamples(obs, action, next_obs, terminated, reward)
