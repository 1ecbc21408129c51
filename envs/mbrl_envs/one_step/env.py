"""One sample at a time."""

from abc import abstractmethod
from collections import deque
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_bilevel.errors import ConfigError
from mbrl_envs.one_step.problem import Array, OneStepProblem

NUM_DRAWN = 200
"""Latest predictions that a picture shows."""


class OneStepEnv(gym.Env[NDArray[np.float32], Any]):
    """An episode is a sample: it begins with what is known of it and ends with a prediction.

    Args:
        problem: Where samples come from, and what predictions are worth.
        render_mode: `None`, `"ansi"` or `"rgb_array"`.

    Raises:
        ConfigError: The render mode is none of these.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 4,
    }

    def __init__(self, problem: OneStepProblem, render_mode: str | None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"render_mode={render_mode!r}; allowed: None, ansi, rgb_array")
        self.observation_space = problem.observation_space
        self.action_space = problem.action_space
        self.render_mode = render_mode
        self._problem = problem
        self._sample: tuple[Array, Array] | None = None
        self._predictions: deque[tuple[Any, Any, float]] = deque(maxlen=NUM_DRAWN)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a sample.

        Raises:
            ValueError: There is an option that the environment does not have.
        """
        super().reset(seed=seed)
        self._sample = self._draw(options or {})
        return self._sample[0][0].copy(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Judge a prediction; the episode ends, and the observation stays what it was.

        Raises:
            gymnasium.error.ResetNeeded: There is no sample, or it has been predicted already.
            ValueError: The action has another shape or type than those of the action space, is
                not finite, or is no class.
        """
        if self._sample is None:
            raise gym.error.ResetNeeded("an episode has one step; call reset() before the next one")
        obs, targets = self._sample
        actions = self._problem.check_actions(np.asarray(action)[None])
        reward = float(self._problem.reward(actions, targets, obs)[0])
        infos = self._problem.infos(actions, targets)
        self._predictions.append((actions[0], targets[0], reward))
        self._sample = None
        return obs[0].copy(), reward, True, False, {key: _unpack(v[0]) for key, v in infos.items()}

    def render(self) -> Any:
        """Show the latest predictions: a line of text, or a picture `[400, 400, 3]`, uint8."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called on an environment made without a render mode; "
                'make it with render_mode="ansi" or "rgb_array".'
            )
            return None
        predictions = list(self._predictions)
        if self.render_mode == "ansi":
            return self._describe(*predictions[-1]) if predictions else "no prediction yet\n"
        figure = Figure(figsize=(4.0, 4.0), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        self._plot(figure, predictions)
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]

    def _draw(self, options: dict[str, Any]) -> tuple[Array, Array]:
        """Return the next sample, `[1, D_x]` and `[1, ...]`."""
        if options:
            raise ValueError(f"options={options!r}; allowed: none")
        return self._problem.sample(self.np_random, 1)

    @abstractmethod
    def _describe(self, action: Any, target: Any, reward: float) -> str:
        """Return a line about a prediction."""

    @abstractmethod
    def _plot(self, figure: Figure, predictions: list[tuple[Any, Any, float]]) -> None:
        """Draw predictions: action, target and reward of each."""


def _unpack(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else value.item()
