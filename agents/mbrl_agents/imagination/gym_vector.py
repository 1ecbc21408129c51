"""The learned dynamics as a vector environment of Gymnasium."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mbrl_agents.imagination.batch import to_numpy
from mbrl_agents.imagination.envs import ImaginedEnvs

Array = NDArray[Any]


class LearnedVectorEnv(ImaginedEnvs, VectorEnv[Array, Array, Array]):
    """N imagined environments, reset in the step that ends them (`AutoresetMode.SAME_STEP`).

    Where any ended, `infos` has `final_obs` `[N]` (None for the others), `final_info` (empty) and
    the masks `_final_obs` and `_final_info`, as `SyncVectorEnv` has them in this mode.

    Arguments and errors are those of `ImaginedEnvs`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin all episodes anew; return observations `[N, D_obs]` and empty infos.

        Raises:
            ValueError: If there are options.
        """
        if options:
            raise ValueError(f"options={options!r}; allowed: none")
        super().reset(seed=seed)
        return to_numpy(self.batch.reset(seed)), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Take one action in each environment, `[N, *shape]`, in its own units.

        Raises:
            ValueError: If the shape is another, or an action is not finite or not in the space.
        """
        step = self._step(actions)
        return (
            to_numpy(step.obs),
            to_numpy(step.reward),
            to_numpy(step.terminated),
            to_numpy(step.truncated),
            self._infos(step.ended.tolist(), to_numpy(step.final_obs)),
        )

    def _infos(self, ended: list[int], final_obs: Array) -> dict[str, Any]:
        if not ended:
            return {}
        mask = np.zeros(self.num_envs, np.bool_)
        mask[ended] = True
        rows = np.full(self.num_envs, None, dtype=object)
        for index, obs in zip(ended, final_obs, strict=True):
            rows[index] = obs
        infos = {"final_obs": rows, "final_info": {}}
        return infos | {f"_{name}": mask.copy() for name in infos}

    def _declare(
        self, num_envs: int, observation_space: spaces.Box, action_space: gym.Space[Any]
    ) -> None:
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
