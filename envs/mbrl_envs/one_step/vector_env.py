"""Many samples at once."""

from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from mbrl_bilevel.errors import ConfigError
from mbrl_envs.one_step.problem import Array, OneStepProblem


class OneStepVectorEnv(VectorEnv[Array, Array, Array]):
    """N one-step environments in one batch, from one random generator.

    Every step ends every episode and begins the next (`AutoresetMode.SAME_STEP`): it returns
    the rewards of the old samples and the observations of new ones. As in Gymnasium's
    `SyncVectorEnv` in this mode, `infos` has `final_obs` `[N]` and `final_info`, the latter with
    what the environment's `info` has, `[N, ...]` each, and masks whose names begin with `_`.

    Args:
        problem: Where samples come from, and what predictions are worth.
        num_envs: N.

    Raises:
        ConfigError: N is below 1.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(self, problem: OneStepProblem, num_envs: int) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs={num_envs}; it must be at least 1")
        self.num_envs = num_envs
        self.single_observation_space = problem.observation_space
        self.single_action_space = problem.action_space
        self.observation_space = batch_space(problem.observation_space, num_envs)
        self.action_space = batch_space(problem.action_space, num_envs)
        self._problem = problem
        self._samples: tuple[Array, Array] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Draw N samples; return their observations `[N, D_x]`.

        Raises:
            ValueError: There are options.
        """
        if options:
            raise ValueError(f"options={options!r}; allowed: none")
        super().reset(seed=seed)
        self._samples = self._problem.sample(self.np_random, self.num_envs)
        return self._samples[0].copy(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Judge a prediction of each sample, `[N, ...]`, and draw new ones.

        Raises:
            ValueError: An action is none, or there are not N of them.
        """
        if self._samples is None:
            raise ValueError("call reset() before the first step")
        actions = np.asarray(actions)
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions for {self.num_envs} environments")
        obs, targets = self._samples
        actions = self._problem.check_actions(actions)
        rewards = self._problem.reward(actions, targets, obs)
        infos = self._final_infos(obs, self._problem.infos(actions, targets))
        self._samples = self._problem.sample(self.np_random, self.num_envs)
        ended = np.ones(self.num_envs, dtype=np.bool_)
        return self._samples[0].copy(), rewards, ended, np.zeros_like(ended), infos

    def _final_infos(self, obs: Array, infos: dict[str, Array]) -> dict[str, Any]:
        rows = np.empty(self.num_envs, dtype=object)
        for index, row in enumerate(obs):
            rows[index] = row
        return self._masked({"final_obs": rows, "final_info": self._masked(infos)})

    def _masked(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Every environment has each of them."""
        masks = {f"_{key}": np.ones(self.num_envs, dtype=np.bool_) for key in infos}
        return {**infos, **masks}
