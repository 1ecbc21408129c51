"""What agents share that act by a policy of Stable-Baselines3."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from mbrl_agents.base import ModelBasedAgent
from mbrl_agents.imagination import LearnedDynamics
from mbrl_agents.policies.config import PolicyAgentConfig
from mbrl_agents.policies.randomness import OwnRandomness
from mbrl_agents.policies.replay import RealTransitions
from mbrl_agents.policies.state import algorithm_state, load_algorithm_state
from mbrl_bilevel.runs import derive_seed


class PolicyAgent(ModelBasedAgent):
    """Learns a policy with an algorithm of Stable-Baselines3, in its model.

    A subclass makes `self.algorithm`, and calls it within `self.randomness.use()`. `self.dynamics`
    are what imagined environments move by; they are refreshed after each fit. `self.real` are the
    recorded transitions as tensors, as far as they have caught up with the buffer.
    """

    config: PolicyAgentConfig
    algorithm: BaseAlgorithm

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.randomness = OwnRandomness(derive_seed(self.seed, "policy"))
        self.dynamics = LearnedDynamics(
            self.model,
            self.reward_fn,
            self.termination_fn,
            uncertainty_penalty=self.config.uncertainty_penalty,
            uncertainty=self.config.uncertainty,
            precision=self.config.precision,
        )
        self.real = RealTransitions(self.model.obs_size, self.codec, self.generator)

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], None]:
        """Return the policy's actions; Stable-Baselines3's `predict`.

        Args:
            observation: `[D_obs]` or a batch `[B, D_obs]`.
            state: Not used: the policy remembers nothing.
            episode_start: Not used.
            deterministic: The policy's best action instead of one drawn from it.

        Returns:
            Actions of the environment, `[*shape]` or `[B, *shape]`, and None.

        Raises:
            ValueError: If the shape is another.
        """
        del state, episode_start
        self._batch(observation)
        with self.randomness.use(), self._acting(deterministic):
            actions, _ = self.algorithm.predict(
                np.asarray(observation), deterministic=deterministic
            )
        return actions, None

    def _acting(self, deterministic: bool) -> AbstractContextManager[None]:
        """Return within what `predict` asks the algorithm for actions."""
        del deterministic
        return nullcontext()

    def _own_state(self) -> dict[str, Any]:
        return {
            "algorithm": algorithm_state(self.algorithm),
            "randomness": self.randomness.state_dict(),
        }

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        load_algorithm_state(self.algorithm, state["algorithm"])
        self.randomness.load_state_dict(state["randomness"])
        self.dynamics.refresh()
        self.real.clear()
        self.real.catch_up(self.buffer)

    def _training_metrics(self) -> dict[str, float]:
        """Return what the algorithm last logged about its updates, under its own tags."""
        logged = self.algorithm.logger.name_to_value
        return {
            name: float(value)
            for name, value in logged.items()
            if name.startswith("train/") and np.isfinite(value)
        }
