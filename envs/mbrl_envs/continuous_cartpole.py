"""The classic cart-pole with a continuous force."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_envs.cartpole_base import CartPoleEnv
from mbrl_envs.cartpole_physics import CartPoleParams, cartpole_derivatives

X_LIMIT = 2.4
THETA_LIMIT = math.radians(12.0)
FORCE_MAG = 10.0
TIME_STEP = 0.02
PARAMS = CartPoleParams(cart_mass=1.0, pole_mass=0.1, pole_length=1.0, gravity=9.8)

RESET_NOISE = 0.05


class ContinuousCartPoleEnv(CartPoleEnv):
    """
    ## Description

    A pole stands upright on a cart, which moves along a frictionless track. The agent has to keep
    it from falling by pushing the cart left and right. This is Gymnasium's `CartPole-v1`, after
    Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning
    control problems" (1983), with a force of any size in place of two: with actions of -1 and 1
    both take the same steps.

    | Quantity    | Value     |
    |-------------|-----------|
    | Cart mass   | 1.0 kg    |
    | Pole mass   | 0.1 kg    |
    | Pole length | 1.0 m     |
    | Gravity     | 9.8 m/s^2 |
    | Time step   | 0.02 s    |

    The equations of motion are integrated by Euler's method, as they are there.

    ## Action Space

    The action is a `ndarray` with shape `(1,)` and dtype `float32`: the horizontal force on the
    cart as a fraction of 10 N, positive to the right. Values beyond the bounds are clipped.

    | Num | Action | Min  | Max |
    |-----|--------|------|-----|
    | 0   | Force  | -1.0 | 1.0 |

    ## Observation Space

    The observation is a `ndarray` with shape `(4,)` and dtype `float32`. `theta` is the angle of
    the pole from upright, growing clockwise.

    | Num | Observation              | Min                 | Max               | Unit  |
    |-----|--------------------------|---------------------|-------------------|-------|
    | 0   | Cart position `x`        | -4.8                | 4.8               | m     |
    | 1   | Cart velocity            | -Inf                | Inf               | m/s   |
    | 2   | Pole angle `theta`       | ~ -0.419 (-24 deg.) | ~ 0.419 (24 deg.) | rad   |
    | 3   | Angular velocity of pole | -Inf                | Inf               | rad/s |

    Episodes end at half the largest position and angle.

    ## Rewards

    1 for every step, also for the one that terminates the episode.

    ## Starting State

    All four components are drawn uniformly from *[-0.05, 0.05]*.

    ## Episode End

    - Termination: the cart leaves the track, `abs(x) > 2.4`, or the pole leans by more than
      12 degrees.
    - Truncation: the episode reaches 200 steps (4 s).

    ## Arguments

    Only `render_mode`: `None`, `"human"` or `"rgb_array"`.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("mbrl_envs:ContinuousCartPole-v0", render_mode="rgb_array")
    >>> env
    <TimeLimit<OrderEnforcing<PassiveEnvChecker<ContinuousCartPoleEnv<ContinuousCartPole-v0>>>>>

    ```

    ## Version History

    * v0: Initial version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (an instance variable in gym.Env)
        "render_modes": ["human", "rgb_array"],
        "render_fps": round(1 / TIME_STEP),
    }

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode, X_LIMIT, PARAMS.pole_length, show_goal=False)
        self.action_space = spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        bounds = np.array([2.0 * X_LIMIT, np.inf, 2.0 * THETA_LIMIT, np.inf], dtype=np.float32)
        self.observation_space = spaces.Box(-bounds, bounds, dtype=np.float32)

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Put the pole up at a slightly random state; `options` are ignored."""
        super().reset(seed=seed)
        self._state = self.np_random.uniform(-RESET_NOISE, RESET_NOISE, size=4)
        if self.render_mode == "human":
            self.render()
        return self._state.astype(np.float32), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push the cart for 0.02 s with `action` `[1]`, a fraction of the largest force."""
        force = FORCE_MAG * float(np.clip(action[0], -1.0, 1.0))
        self._state = self._state + TIME_STEP * cartpole_derivatives(self._state, force, PARAMS)

        # Judged by what the agent sees, so that the end follows from the observation exactly.
        obs = self._state.astype(np.float32)
        terminated = bool(abs(obs[0]) > X_LIMIT or abs(obs[2]) > THETA_LIMIT)
        if self.render_mode == "human":
            self.render()
        # The time limit is handled by the `TimeLimit` wrapper that `gym.make` adds.
        return obs, 1.0, terminated, False, {}
