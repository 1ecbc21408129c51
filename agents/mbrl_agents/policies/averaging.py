"""A policy whose weights are averaged over what it has just learned."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3 import SAC
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class AveragedActor:
    """Exponential averages of the weights of SAC's actor (Polyak and Juditsky 1992).

    A policy that learns fast changes from one evaluation to the next; the average of its latest
    weights changes less. What is learned does not depend on it.

    Args:
        algorithm: Whose actor is averaged.
        num_updates: The latest weights count `1 / num_updates` at each `update`.
    """

    def __init__(self, algorithm: SAC, num_updates: int) -> None:
        average = get_ema_multi_avg_fn(1 - 1 / num_updates)  # type: ignore[no-untyped-call]
        self._algorithm = algorithm
        self._average = AveragedModel(algorithm.actor, multi_avg_fn=average)

    def update(self) -> None:
        """Take the actor's weights as they are now into the averages; the first time, as them."""
        self._average.update_parameters(self._algorithm.actor)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let the algorithm's `predict` act by the averages."""
        policy: Any = self._algorithm.policy
        latest = policy.actor
        policy.actor = self._average.module
        try:
            yield
        finally:
            policy.actor = latest

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs."""
        return {name: value.clone() for name, value in self._average.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._average.load_state_dict(state)
