"""The learned dynamics as a vectorised environment of Stable-Baselines3."""

import itertools
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from mbrl_agents.imagination.batch import to_numpy
from mbrl_agents.imagination.envs import ImaginedEnvs


class LearnedVecEnv(ImaginedEnvs, VecEnv):
    """N imagined environments that any algorithm of Stable-Baselines3 can train in.

    Episodes begin at recorded observations and are truncated after `rollout_length` steps, with
    `terminal_observation` and `TimeLimit.truncated` in their infos as `DummyVecEnv` has them:
    values are bootstrapped beyond the end of a rollout. Observations are what the model predicts;
    they may lie a little outside the space's bounds.

    All environments share one batch of tensors: attributes are the same for all, and a method
    called by `env_method` is called once.

    Arguments and errors are those of `ImaginedEnvs`.
    """

    render_mode: str | None = None

    def reset(self) -> NDArray[np.float32]:
        """Begin all episodes anew; return observations `[N, D_obs]`."""
        obs = self.batch.reset(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        return to_numpy(obs)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember the environments' actions `[N, *shape]`, in their own units."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Return observations, rewards, dones and infos of the step; the ended are begun anew.

        Raises:
            ValueError: If the actions' shape is wrong, or one is not finite or not in the space.
        """
        step = self._step(self._actions)
        ended, final_obs = step.ended.tolist(), to_numpy(step.final_obs)
        is_cut = (step.truncated & ~step.terminated)[step.ended].tolist()
        # A dictionary each: wrappers and callbacks write into them.
        going_on: dict[str, Any] = {"TimeLimit.truncated": False}
        infos = list(map(dict.copy, itertools.repeat(going_on, self.num_envs)))
        for index, obs, cut in zip(ended, final_obs, is_cut, strict=True):
            infos[index] = {"TimeLimit.truncated": cut, "terminal_observation": obs}
        dones = step.terminated | step.truncated
        return to_numpy(step.obs), to_numpy(step.reward), to_numpy(dones), infos

    def close(self) -> None:
        """Do nothing: there is nothing to be released."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return the attribute once for each index.

        Raises:
            AttributeError: If there is none of this name.
        """
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the attribute for all environments.

        Raises:
            ValueError: If `indices` leave any out.
        """
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ValueError(
                f"indices={indices!r}: imagined environments share their attributes; "
                f"{attr_name!r} can only be set for all, indices=None"
            )
        setattr(self, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call the method once, for all environments; return its result once for each index."""
        result = getattr(self, method_name)(*method_args, **method_kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(
        self,
        wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]],  # noqa: ARG002
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """Return False for each index: no environment is wrapped on its own."""
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """Return None for each environment: observations are all that is imagined."""
        return [None] * self.num_envs

    def _declare(
        self, num_envs: int, observation_space: spaces.Box, action_space: gym.Space[Any]
    ) -> None:
        VecEnv.__init__(self, num_envs, observation_space, action_space)
