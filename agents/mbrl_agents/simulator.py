"""A copy of an environment, in which actions are tried out from any moment of the original."""

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from mbrl_agents.env_copies import (
    Attributes,
    changing_layers,
    copied_attributes,
    copy_layers,
    is_mujoco,
    stand_ins,
)
from mbrl_bilevel.environments import env_name
from mbrl_bilevel.errors import EnvError

CHECKED_STEPS = 5
"""Steps that a new simulator has to reproduce."""


@dataclass(frozen=True)
class Snapshot:
    """A moment of an environment; what its layers (wrappers, then the environment) consist of.

    Attributes:
        fixed: Of each layer, what no step changes in place.
        changing: Of each layer, the rest.
        physics: Pairs of the simulator's `MjData` and a copy of the original's.
        generators: Pairs of a generator among what is fixed and its state; a new one each time
            would take as long as a short plan.
    """

    fixed: list[Attributes]
    changing: list[Attributes]
    physics: list[tuple[Any, Any]]
    generators: list[tuple[np.random.Generator, Any]]


@dataclass(frozen=True)
class Simulated:
    """What T actions lead to, up to and including the step that ends the episode.

    Attributes:
        obs: Observations after each step, `[T, D_obs]`.
        rewards: `[T]`.
        terminated: Whether the last step terminated.
    """

    obs: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: bool


class Simulator:
    """Repeats an environment exactly, from any of its moments on.

    A snapshot holds all attributes of the environment and of those wrappers that change what it
    does (time limits are none of them: a plan may look beyond them). MuJoCo's data is taken
    whole: positions and velocities, but also the solver's warm start and the derived quantities
    that some rewards are computed from a step later. Random generators are part of it: where the
    environment draws noise, the simulation draws the same.

    Args:
        env: The original; it is not touched. Others of the same kind can be captured, too.

    Raises:
        EnvError: If an attribute cannot be copied, or the copy does not repeat itself.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._name = env_name(env)
        self._layers = copy_layers(env)
        self._check()

    def capture(self, env: gym.Env[Any, Any]) -> Snapshot:
        """Return the present moment of an environment.

        Raises:
            EnvError: If it is of another kind than the original, or an attribute cannot be copied.
        """
        layers = changing_layers(env)
        kinds = [[type(layer) for layer in each] for each in (layers, self._layers)]
        if kinds[0] != kinds[1]:
            described = [" of ".join(kind.__name__ for kind in each) for each in kinds]
            raise EnvError(
                f"cannot simulate {env_name(env)} ({described[0]}) by a copy of {self._name} "
                f"({described[1]})"
            )
        memo = stand_ins(env, self._layers)
        physics = []
        for layer, own in zip(layers, self._layers, strict=True):
            for name, value in vars(layer).items():
                place = vars(own).get(name)
                if is_mujoco(value, "MjData"):
                    memo[id(value)] = place
                    physics.append((place, copy.copy(value)))
                elif isinstance(value, (gym.Space, EnvSpec)) and type(place) is type(value):
                    memo[id(value)] = place
        fixed, changing = [], []
        for attributes in copied_attributes(layers, memo):
            fixed.append({k: v for k, v in attributes.items() if self._is_fixed(v)})
            changing.append({k: v for k, v in attributes.items() if not self._is_fixed(v)})
        generators = [
            (value, value.bit_generator.state)
            for attributes in fixed
            for value in attributes.values()
            if isinstance(value, np.random.Generator)
        ]
        return Snapshot(fixed, changing, physics, generators)

    def simulate(self, snapshot: Snapshot, actions: Sequence[Any] | NDArray[Any]) -> Simulated:
        """Return what actions `[H, *shape]` lead to, as `step` takes them, from a snapshot on."""
        self._restore(snapshot)
        outermost = self._layers[0]
        obs, rewards, terminated = [], [], False
        for action in actions:
            next_obs, reward, terminated, truncated, _ = outermost.step(action)
            obs.append(np.array(next_obs))  # a copy: environments may reuse their array
            rewards.append(float(reward))
            if terminated or truncated:
                break
        return Simulated(np.stack(obs), np.array(rewards), bool(terminated))

    def total_reward(self, snapshot: Snapshot, actions: NDArray[Any]) -> float:
        """Return what actions `[H, *shape]` earn from a snapshot on, until the episode ends."""
        self._restore(snapshot)
        step = self._layers[0].step
        total = 0.0
        for action in actions:
            _, reward, terminated, truncated, _ = step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return total

    def _restore(self, snapshot: Snapshot) -> None:
        shared = [value for each in snapshot.fixed for value in each.values()]
        memo = {id(value): value for value in (*shared, *self._layers)}
        changing = copy.deepcopy(snapshot.changing, memo)
        for layer, *states in zip(self._layers, snapshot.fixed, changing, strict=True):
            attributes = vars(layer)
            attributes.clear()
            for state in states:
                attributes.update(state)
        for own, saved in snapshot.physics:
            sys.modules["mujoco"].mj_copyData(own, saved.model, saved)
        for generator, state in snapshot.generators:
            generator.bit_generator.state = state

    def _is_fixed(self, value: Any) -> bool:
        """Whether a step can only replace an attribute's value, or `_restore` mends it in place."""
        atoms = (bool, int, float, complex, str, bytes, type(None), np.generic)
        return (
            isinstance(value, (*atoms, gym.Space, EnvSpec, np.random.Generator))
            or is_mujoco(value, "MjModel")
            or is_mujoco(value, "MjData")
            or any(value is layer for layer in self._layers)
        )

    def _check(self) -> None:
        """Raise if a second copy, moved by random actions, is not repeated exactly."""
        try:
            twin = copy_layers(self._layers[0])[0]
            twin.reset(seed=0)
        except EnvError:
            raise
        except Exception as error:
            raise EnvError(
                f"{self._name} cannot be simulated: a copy of it fails: {error}"
            ) from error
        twin.action_space.seed(0)
        moment = self.capture(twin)
        actions = [twin.action_space.sample() for _ in range(CHECKED_STEPS)]
        simulated = self.simulate(moment, actions)
        for obs, reward, action in zip(simulated.obs, simulated.rewards, actions, strict=False):
            real_obs, real_reward, *_ = twin.step(action)
            check_step(self._name, obs, reward, real_obs, float(real_reward))


def check_step(
    name: str, obs: NDArray[Any], reward: float, real_obs: NDArray[Any], real_reward: float
) -> None:
    """Raise unless a simulated step is the environment's own, to the last bit.

    Args:
        name: Of the environment.
        obs: Simulated, `[D_obs]`.
        reward: Simulated.
        real_obs: The environment's, `[D_obs]`.
        real_reward: The environment's.

    Raises:
        EnvError: If they differ.
    """
    if not (np.array_equal(obs, real_obs, equal_nan=True) and reward == real_reward):
        raise EnvError(
            f"the simulation of {name} does not repeat it: from the same state, the same action "
            f"led to {obs} with reward {reward} in the simulation, and to {real_obs} with reward "
            f"{real_reward} in the environment; part of its state is outside its attributes"
        )
