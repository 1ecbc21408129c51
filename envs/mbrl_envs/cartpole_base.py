"""What the cart-pole environments have in common: a state, and its pictures."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mbrl_envs.cartpole_renderer import CartPoleRenderer


class CartPoleEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A cart-pole that can be drawn; subclasses say how it moves and what it pays.

    Args:
        render_mode: `None`, `"human"` or `"rgb_array"`.
        x_limit: Half the length of the track, in m.
        pole_length: In m.
        show_goal: Whether pictures mark where the upright tip is in the middle of the track.
    """

    def __init__(
        self, render_mode: str | None, x_limit: float, pole_length: float, show_goal: bool
    ) -> None:
        self.render_mode = render_mode
        self._x_limit = x_limit
        self._pole_length = pole_length
        self._show_goal = show_goal
        # x, x_dot, theta, theta_dot; kept in float64, the angle never wrapped.
        self._state: NDArray[np.floating[Any]] = np.zeros(4)
        self._renderer: CartPoleRenderer | None = None

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the state: `[400, 600, 3]` uint8 with "rgb_array", a window with "human".

        Raises:
            gymnasium.error.DependencyNotInstalled: pygame is missing.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called on an environment made without a render mode; "
                'make it with render_mode="rgb_array" or "human".'
            )
            return None
        if self._renderer is None:
            self._renderer = CartPoleRenderer(
                x_limit=self._x_limit,
                pole_length=self._pole_length,
                fps=self.metadata["render_fps"],
                show_window=self.render_mode == "human",
                show_goal=self._show_goal,
            )
        x, _, theta, _ = self._state
        frame = self._renderer.draw(float(x), float(theta))
        return frame if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
