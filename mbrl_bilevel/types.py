"""Types shared by all packages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

RewardFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(obs [..., D_obs], action [..., D_act], next_obs [..., D_obs]) -> reward [...]`.

Actions are the environment's own: in its units for Box, an integer index `[...]` for Discrete.
"""

TerminationFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(obs, action, next_obs) -> terminated [...]`, bool; shapes as for `RewardFn`."""


class StateValue(Protocol):
    """What states are worth: `obs [..., D_obs] -> value [...]`, differentiable."""

    @property
    def discount(self) -> float:
        """Weight of a reward one step later."""
        ...

    def __call__(self, obs: Tensor, /) -> Tensor:
        """Return the discounted return from a state on."""
        ...


@dataclass(frozen=True)
class TaskFunctions:
    """What an agent knows of its task beside the dynamics.

    Attributes:
        reward_fn: The exact reward; None: the model's own, if it learns one.
        termination_fn: The exact termination; None: the model's own, if it learns one.
        value: What the agent takes states to be worth; None: nothing.
    """

    reward_fn: RewardFn | None = None
    termination_fn: TerminationFn | None = None
    value: StateValue | None = None


@dataclass(frozen=True)
class Gaussian:
    """A batch of diagonal Gaussians, one batch an ensemble member.

    Attributes:
        mean: `[E, N, D]`.
        log_var: Logarithm of the variance, `[E, N, D]`.
    """

    mean: Tensor
    log_var: Tensor


class Predictor(Protocol):
    """Whatever can act: our agents and Stable-Baselines3's alike."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.generic], Any]:
        """Return the action(s) `[D_act]` or `[B, D_act]`, and the state to hand in next time."""
        ...


@runtime_checkable
class EnvPredictor(Predictor, Protocol):
    """Acts on the environments themselves, and not on their observations alone."""

    def initial_state(self, envs: Sequence[gym.Env[Any, Any]]) -> Any:
        """Return the state to `predict` with as an episode begins in each of B environments."""
        ...


class Agent(Predictor, Protocol):
    """What a training run asks of an agent.

    Agents are found by name in the entry point group `mbrl_bilevel.agents`. Their class has a
    `config_class` (a `StrictConfig` with a `name`) and is called as
    `cls(env, objective=, model=, seed=, device=, **fields of config_class)`. A class with a
    `sections_class`, a `StrictConfig` with the fields `objective` and `model`, has other settings
    in these two than the agents with a Gaussian ensemble. Methods that only some agents have are
    in the protocols below.
    """

    num_timesteps: int

    def learn(self, total_timesteps: int, callback: Any = None) -> Any:
        """Act and learn for so many more steps, calling the `Callback`."""
        ...

    def save(self, path: str | Path) -> None:
        """Write everything that learning goes on from to a folder."""
        ...

    def restore(self, path: str | Path) -> None:
        """Go on, in place, from what `save` wrote."""
        ...


@runtime_checkable
class ModelAgent(Agent, Protocol):
    """An agent with a model of the environment, which a run draws pictures of once it is fitted."""

    num_fits: int

    def sample_trajectories(self, obs: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
        """Return the model's trajectories `[P, H + 1, D_obs]` for actions `[H, *shape]`."""
        ...

    def predict_next_obs(
        self, obs: NDArray[Any], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return mean and variance of next observations by each model, `[E, N, D_obs]` both."""
        ...


@runtime_checkable
class ReportingAgent(Agent, Protocol):
    """An agent that has more to tell of itself than its episodes show."""

    def evaluation_metrics(self) -> dict[str, float]:
        """Return what to log with each evaluation, by TensorBoard tag: `eval/...`."""
        ...

    def figures(self) -> dict[str, Any]:
        """Return pictures by name, matplotlib's figures, for the end of a run."""
        ...
