"""The continuous cart-pole swing-up."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mbrl_envs.cartpole_base import CartPoleEnv
from mbrl_envs.cartpole_physics import CartPoleParams, cartpole_step

X_LIMIT = 2.4
FORCE_MAG = 8.0
TIME_STEP = 0.04
PARAMS = CartPoleParams()

RESET_NOISE = 0.05
UPRIGHT_COS = 0.95
SUCCESS_STEPS = 100


class CartPoleSwingUpEnv(CartPoleEnv):
    """
    ## Description

    A pole hangs from a cart on a track. Pushing the cart left and right, the agent has to swing the
    pole up, bring it to rest upright, and hold it there near the middle of the track. The motor is
    too weak to lift the pole in one swing: energy has to be pumped into it over two or more.

    The pole is a uniform rod, hinged at its lower end; hinge and track are frictionless. The
    equations of motion are those of R. V. Florian, "Correct equations for the dynamics of the
    cart-pole system" (2007), integrated by one Runge-Kutta step of fourth order every 0.04 s.

    | Quantity    | Value      |
    |-------------|------------|
    | Cart mass   | 1.0 kg     |
    | Pole mass   | 0.1 kg     |
    | Pole length | 0.5 m      |
    | Gravity     | 9.81 m/s^2 |
    | Track       | +-2.4 m    |

    ## Action Space

    The action is a `ndarray` with shape `(1,)` and dtype `float32`: the horizontal force on the
    cart as a fraction of 8 N, positive to the right. Values beyond the bounds are clipped.

    | Num | Action | Min  | Max |
    |-----|--------|------|-----|
    | 0   | Force  | -1.0 | 1.0 |

    ## Observation Space

    The observation is a `ndarray` with shape `(5,)` and dtype `float32`. `theta` is the angle of
    the pole from upright, growing clockwise.

    | Num | Observation              | Min  | Max | Unit  |
    |-----|--------------------------|------|-----|-------|
    | 0   | Cart position `x`        | -Inf | Inf | m     |
    | 1   | Cart velocity            | -Inf | Inf | m/s   |
    | 2   | `cos(theta)`             | -1.0 | 1.0 |       |
    | 3   | `sin(theta)`             | -1.0 | 1.0 |       |
    | 4   | Angular velocity of pole | -Inf | Inf | rad/s |

    ## Rewards

    After each step, with `x` and `theta` of the observation returned:

    *r = 0.5 * (1 + cos(theta)) * (1 - 0.5 * (x / 2.4)<sup>2</sup>)*

    It lies in [0, 1]: 1 with the pole upright in the middle of the track, 0 with the pole hanging,
    and half as much at the ends of the track as in its middle. The step that terminates the episode
    earns 0. There is no cost for control.

    `info["is_success"]` is true when the pole has been upright, `cos(theta) > 0.95`, after each of
    the last 100 steps: at the end of a full episode, when it was held up for the second half.

    ## Starting State

    The cart rests in the middle of the track with the pole hanging straight down; uniform noise in
    *[-0.05, 0.05]* is added to position, angle and both velocities.

    ## Episode End

    - Termination: the cart leaves the track, `abs(x) > 2.4`.
    - Truncation: the episode reaches 200 steps (8 s).

    ## Arguments

    Only `render_mode`: `None`, `"human"` or `"rgb_array"`.

    ```python
    >>> import gymnasium as gym
    >>> env = gym.make("mbrl_envs:CartPoleSwingUp-v0", render_mode="rgb_array")
    >>> env
    <TimeLimit<OrderEnforcing<PassiveEnvChecker<CartPoleSwingUpEnv<CartPoleSwingUp-v0>>>>>

    ```

    ## Version History

    * v0: Initial version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (an instance variable in gym.Env)
        "render_modes": ["human", "rgb_array"],
        "render_fps": round(1 / TIME_STEP),
    }

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode, X_LIMIT, PARAMS.pole_length, show_goal=True)
        self.action_space = spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        bounds = np.array([np.inf, np.inf, 1.0, 1.0, np.inf], dtype=np.float32)
        self.observation_space = spaces.Box(-bounds, bounds, dtype=np.float32)
        self._state = np.array([0.0, 0.0, math.pi, 0.0])
        self._steps_upright = 0

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Hang the pole down at a slightly random state; `options` are ignored."""
        super().reset(seed=seed)
        noise = self.np_random.uniform(-RESET_NOISE, RESET_NOISE, size=4)
        self._state = np.array([0.0, 0.0, math.pi, 0.0]) + noise
        self._steps_upright = 0
        if self.render_mode == "human":
            self.render()
        return self._observation(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push the cart for 0.04 s with `action` `[1]`, a fraction of the largest force."""
        force = FORCE_MAG * float(np.clip(action[0], -1.0, 1.0))
        self._state = cartpole_step(self._state, force, TIME_STEP, PARAMS)

        # Judged by what the agent sees, so that the end follows from the observation exactly.
        obs = self._observation()
        terminated = bool(abs(obs[0]) > X_LIMIT)
        x, cos = float(obs[0]), float(obs[2])
        reward = 0.0 if terminated else 0.5 * (1.0 + cos) * (1.0 - 0.5 * (x / X_LIMIT) ** 2)

        self._steps_upright = self._steps_upright + 1 if cos > UPRIGHT_COS else 0
        is_success = not terminated and self._steps_upright >= SUCCESS_STEPS
        if self.render_mode == "human":
            self.render()
        # The time limit is handled by the `TimeLimit` wrapper that `gym.make` adds.
        return obs, reward, terminated, False, {"is_success": is_success}

    def _observation(self) -> NDArray[np.float32]:
        x, x_dot, theta, theta_dot = self._state
        return np.array([x, x_dot, np.cos(theta), np.sin(theta), theta_dot], dtype=np.float32)
