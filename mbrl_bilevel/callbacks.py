"""What can be hooked into an agent's training."""

from collections.abc import Mapping, Sequence

from mbrl_bilevel.types import Agent


class Callback:
    """Does nothing; override what is needed."""

    def on_step(self, agent: Agent) -> bool:
        """After every environment step, and the fit that may follow it. False stops training."""
        del agent
        return True

    def on_episode_end(self, agent: Agent, episode_return: float, length: int) -> None:
        """After the last step of an episode."""

    def on_fit(self, agent: Agent, metrics: Mapping[str, float]) -> None:
        """After a fit of the dynamics model; `metrics` under the tags they are logged by."""


class CallbackList(Callback):
    """Calls several callbacks in turn."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)

    def on_step(self, agent: Agent) -> bool:
        # All of them first: one that stops training must not keep the others from their step.
        answers = [callback.on_step(agent) for callback in self.callbacks]
        return all(answers)

    def on_episode_end(self, agent: Agent, episode_return: float, length: int) -> None:
        for callback in self.callbacks:
            callback.on_episode_end(agent, episode_return, length)

    def on_fit(self, agent: Agent, metrics: Mapping[str, float]) -> None:
        for callback in self.callbacks:
            callback.on_fit(agent, metrics)
