"""Dyna: any algorithm of Stable-Baselines3, learning in imagined environments (Sutton 1991)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mbrl_agents.imagination import LearnedVecEnv
from mbrl_agents.policies import make_algorithm
from mbrl_agents.policies.agent import PolicyAgent
from mbrl_agents.policies.config import DynaConfig
from mbrl_agents.policies.replay import SB3BufferWithReal
from mbrl_bilevel.runs import derive_seed, generator_state, set_generator_state


class Dyna(PolicyAgent):
    """After each fit of the model, its algorithm learns in it as in any environment.

    Arguments and errors are those of `ModelBasedAgent`; the settings are the fields of
    `DynaConfig`: `algorithm`, `imagined_steps`, `rollout_length`, ...
    """

    config_class: ClassVar[type[DynaConfig]] = DynaConfig
    config: DynaConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.imagined_env = LearnedVecEnv(
            self.dynamics,
            np.zeros((1, self.model.obs_size)),  # until something is recorded
            num_envs=self.config.num_envs,
            rollout_length=self.config.rollout_length,
            stay_in_range=self.config.stay_in_range,
            observation_space=self.env.observation_space,
            action_space=self.env.action_space,
            seed=derive_seed(self.seed, "rollouts"),
            device=self.device,
        )
        self.algorithm = make_algorithm(
            self.config.algorithm.name,
            self.imagined_env,
            self.config.algorithm.settings,
            derive_seed(self.seed, "policy weights"),
            self.device,
            fixed=self._mixed_buffer() if self.config.real_data_ratio > 0 else None,
            kind="off_policy" if self.config.real_data_ratio > 0 else None,
        )

    def _act(self) -> Tensor:
        actions, _ = self.predict(self.interaction.obs[None])
        features = self.codec.encode(self.codec.flatten(actions))
        scale: float | None = self.config.algorithm.settings.get("action_noise")
        if scale is None:
            return features
        noise = torch.randn(features.shape, generator=self.generator).to(self.device)
        return (features + scale * noise).clamp(-1.0, 1.0)

    def _after_fit(self) -> dict[str, float]:
        self.imagined_env.refresh()
        self.imagined_env.set_start_obs(self.buffer.all())
        self.real.catch_up(self.buffer)
        self.algorithm.set_env(self.imagined_env)  # whose episodes begin anew
        with self.randomness.use():
            self.algorithm.learn(self.config.imagined_steps, reset_num_timesteps=False)
        return self._training_metrics() | {
            "imagination/steps": float(self.algorithm.num_timesteps),
            "imagination/num_broken": float(self.imagined_env.num_broken),
        }

    def _mixed_buffer(self) -> dict[str, Any]:
        """Return the arguments by which an off-policy algorithm learns from real data as well."""
        return {
            "replay_buffer_class": SB3BufferWithReal,
            "replay_buffer_kwargs": {
                "real": self.real,
                "real_data_ratio": self.config.real_data_ratio,
            },
            "n_steps": 1,  # what was recorded lies in single steps
        }

    def _own_state(self) -> dict[str, Any]:
        generator = generator_state(self.imagined_env.batch.generator)
        return super()._own_state() | {"rollouts": generator}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        super()._load_own_state(state)
        set_generator_state(self.imagined_env.batch.generator, state["rollouts"])
