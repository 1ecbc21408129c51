"""What can be hooked into an agent's training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mbrl_agents.pets import PETS


class Callback:
    """Does nothing; override what is needed."""

    def on_step(self, agent: "PETS") -> bool:
        """After every environment step, and the fit that may follow it. False stops training."""
        del agent
        return True

    def on_episode_end(self, agent: "PETS", episode_return: float, length: int) -> None:
        """After the last step of an episode."""

    def on_fit(self, agent: "PETS", metrics: Mapping[str, float]) -> None:
        """After a fit of the dynamics model; `metrics` under the tags they are logged by."""


class CallbackList(Callback):
    """Calls several callbacks in turn."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)

    def on_step(self, agent: "PETS") -> bool:
        return all(callback.on_step(agent) for callback in self.callbacks)

    def on_episode_end(self, agent: "PETS", episode_return: float, length: int) -> None:
        for callback in self.callbacks:
            callback.on_episode_end(agent, episode_return, length)

    def on_fit(self, agent: "PETS", metrics: Mapping[str, float]) -> None:
        for callback in self.callbacks:
            callback.on_fit(agent, metrics)
