"""Actor, critics and entropy coefficient of MAAC: those of Stable-Baselines3's SAC."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.utils import polyak_update
from torch import Tensor

from mbrl_agents.policies import (
    SpacesOnly,
    algorithm_state,
    load_algorithm_state,
    make_algorithm,
)
from mbrl_bilevel.errors import MBRLError

DECIDED_HERE = {
    "buffer_size": 1, "learning_starts": 0, "train_freq": 1, "gradient_steps": 1, "n_steps": 1,
    "action_noise": None, "target_update_interval": 1, "use_sde": False, "sde_sample_freq": -1,
    "use_sde_at_warmup": False,
}  # fmt: skip
"""Arguments of SAC that only its own loop would use, or that MAAC's actor cannot have."""


class ActorCritic:
    """Networks and optimisers, and one step of each.

    Args:
        obs_size: D_obs.
        action_size: A; actions are features in [-1, 1].
        settings: Of Stable-Baselines3's SAC; learning rates are constant.
        seed: Of the initial weights.
        device: Of the networks.
        max_grad_norm: Longest gradient of the actor; None: any.

    Raises:
        ConfigError: If a setting is unknown or impossible.
    """

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        settings: Mapping[str, Any],
        seed: int,
        device: torch.device,
        max_grad_norm: float | None = None,
    ) -> None:
        env = SpacesOnly(
            spaces.Box(-torch.inf, torch.inf, (obs_size,)), spaces.Box(-1.0, 1.0, (action_size,))
        )
        algorithm = make_algorithm("sac", env, settings, seed, device, fixed=DECIDED_HERE)
        assert isinstance(algorithm, SAC)
        self.algorithm = algorithm
        self.actor, self.critic = algorithm.actor, algorithm.critic
        self.target_critic = algorithm.critic_target
        self.max_grad_norm = torch.inf if max_grad_norm is None else max_grad_norm
        self.discount, self.batch_size = algorithm.gamma, algorithm.batch_size

    @property
    def ent_coef(self) -> Tensor:
        """The entropy coefficient as it is now, one number, without a gradient."""
        log_ent_coef = self.algorithm.log_ent_coef
        if log_ent_coef is None:
            return self.algorithm.ent_coef_tensor
        return log_ent_coef.detach().exp()

    def step_critic(self, loss: Tensor) -> None:
        """Take a step of the critics down their loss."""
        self.critic.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic.optimizer.step()

    def step_actor(self, loss: Tensor) -> Tensor:
        """Take a step of the actor down its loss; return the norm of the gradient, `[]`.

        Only the actor's own gradient is computed: the loss depends on the critics too.

        Raises:
            MBRLError: If the gradient is not finite; the actor is left as it was.
        """
        parameters = list(self.actor.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        if not norm.isfinite():
            raise MBRLError(
                "the gradient of the actor is not finite: imagined trajectories run away; lower "
                "agent.horizon, or set model.clip_to_data"
            )
        self.actor.optimizer.step()
        return norm

    def step_ent_coef(self, log_prob: Tensor) -> None:
        """Move a learned coefficient by how far log-probabilities `[N]` are from the target."""
        optimizer, log_ent_coef = self.algorithm.ent_coef_optimizer, self.algorithm.log_ent_coef
        if optimizer is None or log_ent_coef is None:
            return
        assert isinstance(self.algorithm.target_entropy, float)
        excess = (log_prob.detach() + self.algorithm.target_entropy).mean()
        optimizer.zero_grad()
        (-log_ent_coef * excess).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def step_target(self) -> None:
        """Move the critics' targets a little towards them."""
        polyak_update(self.critic.parameters(), self.target_critic.parameters(), self.algorithm.tau)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on identically."""
        return algorithm_state(self.algorithm)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        load_algorithm_state(self.algorithm, state)
