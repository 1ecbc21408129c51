"""MAAC: an actor that learns through the model (Clavera, Fu and Abbeel 2020)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from mbrl_agents.base import ModelBasedAgent
from mbrl_agents.maac.config import MAACConfig
from mbrl_agents.maac.dynamics import DifferentiableModel, check_differentiable
from mbrl_agents.maac.networks import ActorCritic
from mbrl_agents.maac.rollout import Policy, Rollout, roll_out, soft_returns
from mbrl_agents.maac.soft_actor_critic import (
    critic_loss,
    imagined_transitions,
    smallest_q,
    soft_targets,
    squashed_action,
)
from mbrl_agents.policies.replay import RealTransitions, concatenated
from mbrl_bilevel.errors import EnvError
from mbrl_bilevel.runs import derive_seed


class MAAC(ModelBasedAgent):
    """Learns a model, critics, and an actor by the gradient of imagined returns.

    After each step in the environment, from the first fit on:

    1. the actor is followed from recorded states for H = `horizon` steps of the model, its actions
       and the model's steps reparameterised, each trajectory with one elite member;
    2. the critics take a step towards SAC's targets, on recorded transitions and, with
       `imagined_critic_data`, on those of step 1;
    3. the actor takes a step up the gradient of the trajectories' rewards and entropies and of the
       critics' value of their ends;
    4. the entropy coefficient is adapted as in SAC, by the actions in the recorded states.

    With `horizon=0` this is SAC. Arguments and errors are those of `ModelBasedAgent`; the settings
    are the fields of `MAACConfig`.

    Raises:
        EnvError: If actions are discrete.
        ConfigError: If no gradient flows through `reward_fn`.
    """

    config_class: ClassVar[type[MAACConfig]] = MAACConfig
    config: MAACConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.codec.is_discrete:
            raise EnvError(
                f"action space {self.env.action_space} is not supported by MAAC, which "
                "differentiates actions; allowed: Box with finite bounds"
            )
        if self.reward_fn is not None and self.config.horizon > 0:
            check_differentiable(self.reward_fn, self.model)
        self.networks = ActorCritic(
            self.model.obs_size,
            self.codec.size,
            self.config.sac,
            derive_seed(self.seed, "policy weights"),
            self.device,
            self.config.max_grad_norm,
        )
        self.policy: Policy = partial(squashed_action, self.networks.actor)
        self.dynamics = self._current_dynamics()
        self.real = self._no_transitions()
        self.metrics: dict[str, float] = {}

    @torch.no_grad()
    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,  # noqa: ARG002
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Return actions of the environment, `[*shape]` or `[B, *shape]`, and the state as it came.

        Args:
            observation: `[D_obs]` or a batch `[B, D_obs]`.
            state: Not used.
            episode_start: Not used.
            deterministic: The middle of the policy's actions, instead of a draw by the agent's own
                generator.
        """
        features = self._features(self._batch(observation), deterministic=deterministic)
        env_action = self.codec.to_env(features)
        return (env_action if np.ndim(observation) == 2 else env_action[0]), state

    @torch.no_grad()
    def _act(self) -> Tensor:
        return self._features(self.interaction.obs[None], deterministic=False)

    def _after_fit(self) -> dict[str, float]:
        self.dynamics = self._current_dynamics()
        return self.metrics

    def _after_step(self) -> None:
        self.real.catch_up(self.buffer)
        for _ in range(self.config.updates_per_step):
            self._learn_from(self.real.sample(self.networks.batch_size))

    def _learn_from(self, batch: ReplayBufferSamples) -> None:
        networks, ent_coef = self.networks, self.networks.ent_coef
        rollout = self._imagine(batch.observations)
        self._train_critics(batch, rollout, ent_coef)
        final_value = smallest_q(networks.critic, rollout.obs[-1], rollout.action[-1])
        returns = soft_returns(rollout, final_value, ent_coef, self.networks.discount)
        gradient_norm = networks.step_actor(-returns.mean())
        networks.step_ent_coef(rollout.log_prob[0])
        networks.step_target()
        self.metrics |= {
            "train/actor_loss": -returns.mean().item(),
            "train/actor_gradient_norm": gradient_norm.item(),
            "train/ent_coef": ent_coef.item(),
        }

    def _imagine(self, start_obs: Tensor) -> Rollout:
        horizon, num_rows = self.config.horizon, len(start_obs)
        return roll_out(
            start_obs,
            self.policy,
            self.dynamics,
            self._noise(horizon + 1, num_rows, self.codec.size),
            self._noise(horizon, num_rows, self.model.obs_size),
        )

    def _train_critics(
        self, batch: ReplayBufferSamples, rollout: Rollout, ent_coef: Tensor
    ) -> None:
        if self.config.imagined_critic_data and self.config.horizon > 0:
            batch = concatenated(batch, imagined_transitions(rollout))
        targets = soft_targets(
            batch,
            self.policy,
            self.networks.target_critic,
            self._noise(len(batch.rewards), self.codec.size),
            ent_coef,
            self.networks.discount,
        )
        loss = critic_loss(self.networks.critic, batch, targets)
        self.networks.step_critic(loss)
        self.metrics |= {"train/critic_loss": loss.item()}

    def _features(self, obs: NDArray[Any], *, deterministic: bool) -> Tensor:
        """Return action features `[B, A]` for observations `[B, D_obs]`."""
        start = torch.as_tensor(obs, dtype=torch.float32, device=self.device)
        shape = (len(start), self.codec.size)
        noise = torch.zeros(shape, device=self.device) if deterministic else self._noise(*shape)
        return self.policy(start, noise)[0]

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def _current_dynamics(self) -> DifferentiableModel:
        return DifferentiableModel(self.model, self.reward_fn, self.termination_fn)

    def _no_transitions(self) -> RealTransitions:
        return RealTransitions(self.model.obs_size, self.codec, self.generator)

    def _own_state(self) -> dict[str, Any]:
        return {"networks": self.networks.state_dict(), "train_metrics": dict(self.metrics)}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        self.real = self._no_transitions()
        self.metrics = dict(state["train_metrics"])
        self.dynamics = self._current_dynamics()
