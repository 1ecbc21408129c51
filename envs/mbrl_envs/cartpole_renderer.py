"""Drawing a cart-pole with pygame; without a window no display is needed."""

import math
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

WIDTH, HEIGHT = 600, 400
OVERSAMPLING = 3
"""Frames are drawn this much larger and shrunk, which smooths all edges."""

MARGIN = 0.3
CART_SIZE = (0.36, 0.18)
POLE_WIDTH = 0.06
GOAL_RADIUS = 0.1
TRACK_HEIGHT = 0.5
"""Lengths in metres; the track's height as a fraction of the frame's."""

BACKGROUND = (250, 250, 248)
TRACK = (150, 155, 165)
CART = (52, 73, 94)
POLE = (214, 108, 68)
AXLE = (250, 250, 248)
GOAL = (72, 160, 110)


class CartPoleRenderer:
    """Draws frames of 600 x 400 pixels and, if asked to, shows them in a window.

    Args:
        x_limit: Half the length of the track, in m.
        pole_length: In m.
        fps: Frames a second in the window.
        show_window: Whether to open a window; without one no display is needed.
        show_goal: Whether to mark where the tip is when upright in the middle of the track.

    Raises:
        gymnasium.error.DependencyNotInstalled: pygame is missing.
    """

    def __init__(
        self, x_limit: float, pole_length: float, fps: int, show_window: bool, show_goal: bool
    ) -> None:
        try:
            import pygame
        except ImportError as error:
            raise DependencyNotInstalled(
                'pygame is not installed, run `pip install "gymnasium[classic-control]"`'
            ) from error
        self._pygame: Any = pygame
        self._x_limit = x_limit
        self._pole_length = pole_length
        self._fps = fps
        self._show_goal = show_goal
        self._scale = OVERSAMPLING * WIDTH / (2 * (x_limit + MARGIN))
        self._canvas = pygame.Surface((OVERSAMPLING * WIDTH, OVERSAMPLING * HEIGHT), 0, 32)
        self._window: Any = None
        if show_window:
            pygame.display.init()
            self._window = pygame.display.set_mode((WIDTH, HEIGHT))
            self._clock = pygame.time.Clock()

    def draw(self, x: float, theta: float) -> NDArray[np.uint8]:
        """Draw the cart at `x` (m) with the pole at `theta` (rad); return `[400, 600, 3]`."""
        self._canvas.fill(BACKGROUND)
        self._draw_track()
        if self._show_goal:
            self._draw_goal()
        self._draw_cart_and_pole(x, theta)

        frame = self._pygame.transform.smoothscale(self._canvas, (WIDTH, HEIGHT))
        if self._window is not None:
            self._window.blit(frame, (0, 0))
            self._pygame.event.pump()
            self._clock.tick(self._fps)
            self._pygame.display.flip()
        pixels: NDArray[np.uint8] = self._pygame.surfarray.array3d(frame)
        return pixels.transpose(1, 0, 2)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._pygame.display.quit()
            self._window = None

    def _draw_track(self) -> None:
        self._fill_box(0.0, 0.0, 2 * self._x_limit, 0.02, TRACK)
        for end in (-self._x_limit, self._x_limit):
            self._fill_box(end, 0.0, 0.03, 0.24, TRACK)

    def _draw_goal(self) -> None:
        center = self._to_pixels(0.0, self._pole_length)
        line = round(0.025 * self._scale)
        radius = round(GOAL_RADIUS * self._scale)
        self._pygame.draw.circle(self._canvas, GOAL, center, radius, line)

    def _draw_cart_and_pole(self, x: float, theta: float) -> None:
        self._fill_box(x, 0.0, *CART_SIZE, CART)
        tip_x = x + self._pole_length * math.sin(theta)
        tip_y = self._pole_length * math.cos(theta)
        side_x, side_y = math.cos(theta) * POLE_WIDTH / 2, -math.sin(theta) * POLE_WIDTH / 2
        outline = [
            self._to_pixels(x + side_x, side_y),
            self._to_pixels(x - side_x, -side_y),
            self._to_pixels(tip_x - side_x, tip_y - side_y),
            self._to_pixels(tip_x + side_x, tip_y + side_y),
        ]
        self._pygame.draw.polygon(self._canvas, POLE, outline)
        for end in (self._to_pixels(x, 0.0), self._to_pixels(tip_x, tip_y)):
            radius = round(POLE_WIDTH / 2 * self._scale)
            self._pygame.draw.circle(self._canvas, POLE, end, radius)
        self._pygame.draw.circle(
            self._canvas, AXLE, self._to_pixels(x, 0.0), round(0.015 * self._scale)
        )

    def _fill_box(
        self, x: float, y: float, width: float, height: float, color: tuple[int, int, int]
    ) -> None:
        """Fill a box around its centre `(x, y)`; lengths in m."""
        left, top = self._to_pixels(x - width / 2, y + height / 2)
        box = (left, top, round(width * self._scale), round(height * self._scale))
        self._pygame.draw.rect(self._canvas, color, box)

    def _to_pixels(self, x: float, y: float) -> tuple[int, int]:
        """From m, measured from the middle of the track upwards, to the canvas."""
        column = OVERSAMPLING * WIDTH / 2 + x * self._scale
        row = OVERSAMPLING * HEIGHT * TRACK_HEIGHT - y * self._scale
        return round(column), round(row)
