"""MBPO: model-based policy optimisation (Janner et al. 2019)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import torch
from stable_baselines3 import SAC
from torch import Tensor

from mbrl_agents.imagination import ImaginedBatch
from mbrl_agents.imagination.spaces import float32_box
from mbrl_agents.policies import SpacesOnly, make_algorithm
from mbrl_agents.policies.agent import PolicyAgent
from mbrl_agents.policies.averaging import AveragedActor
from mbrl_agents.policies.config import MBPOConfig
from mbrl_agents.policies.offline import record_dataset
from mbrl_agents.policies.replay import MixedReplay
from mbrl_agents.policies.transitions import TransitionRing
from mbrl_bilevel.callbacks import Callback
from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.runs import derive_seed, generator_state, set_generator_state

DECIDED_HERE = {
    "buffer_size": 1, "learning_starts": 0, "train_freq": 1, "gradient_steps": 1, "n_steps": 1,
    "action_noise": None,
}  # fmt: skip
"""Arguments of SAC that only its own loop would use."""


class MBPO(PolicyAgent):
    """Learns SAC from short rollouts in the model, which branch off recorded states.

    Arguments and errors are those of `ModelBasedAgent`; the settings are the fields of
    `MBPOConfig`: `rollout_length`, `num_rollouts`, `gradient_steps`, ...
    """

    config_class: ClassVar[type[MBPOConfig]] = MBPOConfig
    config: MBPOConfig
    algorithm: SAC

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.config.offline and self.config.dataset is None:
            raise ConfigError(
                "missing key 'agent.dataset.path': offline=true learns from a dataset"
            )
        if self.config.dataset is not None and not self.config.offline:
            raise ConfigError(
                f"invalid value for 'agent.dataset.path': {self.config.dataset.path!r}; only "
                "offline=true learns from a dataset"
            )
        spaces = SpacesOnly(float32_box(self.env.observation_space), self.env.action_space)
        algorithm = make_algorithm(
            "sac",
            spaces,
            self.config.sac,
            derive_seed(self.seed, "policy weights"),
            self.device,
            fixed=DECIDED_HERE,
        )
        assert isinstance(algorithm, SAC)
        self.algorithm = algorithm
        self.averaged: AveragedActor | None = None
        if self.config.averaged_steps > 0:
            self.averaged = AveragedActor(algorithm, self.config.averaged_steps)
        obs_size = self.model.obs_size
        self.imagined = TransitionRing(1, obs_size, self.codec, self.generator)
        self.algorithm.replay_buffer = MixedReplay(  # type: ignore[assignment]
            self.real, self.imagined, self.config.real_data_ratio, self.config.reward_scale
        )
        self.rollouts = ImaginedBatch(
            self.dynamics,
            torch.zeros(1, obs_size),  # until something is recorded
            obs_size=obs_size,
            num_envs=self.config.num_rollouts,
            rollout_length=1,
            stay_in_range=self.config.stay_in_range,
            seed=derive_seed(self.seed, "rollouts"),
            device=self.device,
        )

    def learn(self, total_timesteps: int, callback: Callback | None = None) -> Self:
        """Act, record and learn for so many more steps; offline, update the policy as often.

        Raises:
            ConfigError: If the dataset is not there, or is of other spaces.
            DatasetError: If it is damaged.
            EnvError: If the environment returns nan or infinity.
        """
        if not self.config.offline:
            return super().learn(total_timesteps, callback)
        callback = callback or Callback()
        if len(self.buffer) == 0:
            assert self.config.dataset is not None
            record_dataset(self.config.dataset, self.env, self.buffer)
        if self.num_fits == 0:
            callback.on_fit(self, self.fit_model())
        for _ in range(total_timesteps):
            self.num_timesteps += 1
            if self.num_timesteps % self.config.rollout_freq == 0:
                self._roll_out()
            self._improve(gradient_steps=1)
            if not callback.on_step(self):
                break
        return self

    def _acting(self, deterministic: bool) -> AbstractContextManager[None]:
        if self.averaged is None or not deterministic:
            return super()._acting(deterministic)
        return self.averaged.acting()

    def _act(self) -> Tensor:
        obs = torch.as_tensor(self.interaction.obs, dtype=torch.float32, device=self.device)
        with self.randomness.use():
            return self._draw_actions(obs[None])

    def _after_fit(self) -> dict[str, float]:
        self.dynamics.refresh()
        self.real.catch_up(self.buffer)
        return self._training_metrics() | self._roll_out()

    def _after_step(self) -> None:
        self.real.catch_up(self.buffer)
        is_due = self.num_timesteps % self.config.rollout_freq == 0
        if is_due and not self._is_fit_due():  # after a fit it is done already
            self._roll_out()
        self._improve(self.config.gradient_steps)

    def _roll_out(self) -> dict[str, float]:
        """Imagine what the policy would do from recorded states on; return what to log."""
        length = self.config.rollout_length.at(self.num_timesteps)
        self.imagined.set_capacity(
            self.config.num_rollouts * length * self.config.retained_rollouts
        )
        self.rollouts.set_rollout_length(length)
        self.rollouts.set_start_obs(self.real.obs)
        obs = self.rollouts.reset()
        num_left = self.rollouts.num_left
        rewards = uncertainty = 0.0
        with self.randomness.use():
            for _ in range(length):
                actions = self._draw_actions(obs)
                step = self.rollouts.step(actions)
                next_obs = step.obs.index_copy(0, step.ended, step.final_obs)
                self.imagined.add(obs, actions, step.reward, next_obs, step.terminated)
                rewards += step.reward.mean().item() / length
                uncertainty += step.uncertainty.mean().item() / length
                obs = step.obs
        return {
            "imagination/rollout_length": float(length),
            "imagination/reward_mean": rewards,
            "imagination/uncertainty_mean": uncertainty,
            "imagination/num_broken": float(self.rollouts.num_broken),
            "imagination/left_range": (self.rollouts.num_left - num_left) / (length * len(obs)),
        }

    def _improve(self, gradient_steps: int) -> None:
        """Update the policy on batches of real and imagined transitions."""
        with self.randomness.use():
            self.algorithm.train(gradient_steps, self.algorithm.batch_size)
        if self.averaged is not None:
            self.averaged.update()

    @torch.no_grad()
    def _draw_actions(self, obs: Tensor) -> Tensor:
        """Return action features `[N, A]` drawn from the policy for `obs` `[N, D_obs]`."""
        self.algorithm.policy.set_training_mode(False)
        if self.algorithm.use_sde:
            self.algorithm.actor.reset_noise(len(obs))
        actions: Tensor = self.algorithm.actor(obs)
        return actions

    def _own_state(self) -> dict[str, Any]:
        return super()._own_state() | {
            "imagined": self.imagined.state_dict(),
            "rollouts": generator_state(self.rollouts.generator),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
        }

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        super()._load_own_state(state)
        self.imagined.load_state_dict(state["imagined"])
        set_generator_state(self.rollouts.generator, state["rollouts"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
