"""Rollouts that gradients flow through, and their returns: the pure part of MAAC's actor loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Policy = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(obs [N, D_obs], noise [N, A]) -> (action features [N, A], log-probability [N])`."""

Dynamics = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""`(obs [N, D_obs], action [N, A], noise [N, D_obs]) -> (next_obs [N, D_obs], reward [N],
terminated [N], bool)`. Row i is moved by the same dynamics whenever it is called."""


@dataclass(frozen=True)
class Rollout:
    """N trajectories of H steps, differentiable by the policy's parameters and the first states.

    Attributes:
        obs: H + 1 times `[N, D_obs]`; a trajectory that has ended stays where it was last.
        action: H + 1 times `[N, A]`; the last one is not taken in the model, only valued.
        log_prob: Of the actions, H + 1 times `[N]`.
        reward: H times `[N]`; means nothing once a trajectory has ended.
        terminated: H times `[N]`, bool: whether the step would end an episode.
        alive: H + 1 times `[N]`, bool: whether the trajectory had not ended before the action.
    """

    obs: tuple[Tensor, ...]
    action: tuple[Tensor, ...]
    log_prob: tuple[Tensor, ...]
    reward: tuple[Tensor, ...]
    terminated: tuple[Tensor, ...]
    alive: tuple[Tensor, ...]


def roll_out(
    start_obs: Tensor,
    policy: Policy,
    dynamics: Dynamics,
    action_noise: Tensor,
    model_noise: Tensor,
) -> Rollout:
    """Follow a policy in a model for H steps, both reparameterised by the noise handed in.

    Args:
        start_obs: `[N, D_obs]`.
        policy: Draws actions.
        dynamics: Moves by them.
        action_noise: Standard normal, `[H + 1, N, A]`.
        model_noise: Standard normal, `[H, N, D_obs]`.
    """
    obs, alive = start_obs, torch.ones(len(start_obs), dtype=torch.bool, device=start_obs.device)
    action, log_prob = policy(obs, action_noise[0])
    visited, actions, log_probs, alives = [obs], [action], [log_prob], [alive]
    rewards: list[Tensor] = []
    terminations: list[Tensor] = []
    for noise, next_action_noise in zip(model_noise, action_noise[1:], strict=True):
        next_obs, reward, terminated = dynamics(obs, action, noise)
        alive = alive & ~terminated
        # Beyond the end the model may predict anything, nan too, and a nan that is masked later
        # would still reach the gradient.
        obs = torch.where(alive[:, None], next_obs, obs)
        action, log_prob = policy(obs, next_action_noise)
        rewards.append(reward)
        terminations.append(terminated)
        visited.append(obs)
        actions.append(action)
        log_probs.append(log_prob)
        alives.append(alive)
    return Rollout(
        tuple(visited),
        tuple(actions),
        tuple(log_probs),
        tuple(rewards),
        tuple(terminations),
        tuple(alives),
    )


def soft_returns(
    rollout: Rollout, final_value: Tensor, ent_coef: Tensor | float, discount: float
) -> Tensor:
    """Return the discounted rewards and entropies of each trajectory, and what is left, `[N]`.

        sum_{t<H} discount^t (r_t - ent_coef log pi(a_t | s_t))
            + discount^H (Q(s_H, a_H) - ent_coef log pi(a_H | s_H))

    The objective of Clavera et al. (2020, equation 3) with the entropies of SAC. The reward of the
    step that terminates counts, and nothing after it. For H = 0 this is SAC's objective.

    Args:
        rollout: Of H steps.
        final_value: Q of its last states and actions, `[N]`.
        ent_coef: The entropy coefficient.
        discount: Per step.
    """
    gains = (*rollout.reward, final_value)
    total = torch.zeros_like(final_value)
    for t, (gain, log_prob, alive) in enumerate(
        zip(gains, rollout.log_prob, rollout.alive, strict=True)
    ):
        soft_gain = discount**t * (gain - ent_coef * log_prob)
        total = total + torch.where(alive, soft_gain, torch.zeros_like(soft_gain))
    return total
