"""Random numbers of one's own for code that draws from the global generators."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mbrl_bilevel.runs import capture_rng_state, restore_rng_state, seed_everything


class OwnRandomness:
    """A state of the global generators that only one object's code moves on.

    Stable-Baselines3 draws from the generators of torch, NumPy and Python that everybody shares.
    Within `use()` they are in this object's state, and afterwards back in the state they had:
    what an agent learns depends on its seed alone, and its checkpoints hold all there is to know.

    Args:
        seed: Of the first state.
    """

    def __init__(self, seed: int) -> None:
        outside = capture_rng_state()
        seed_everything(seed)
        self._state = capture_rng_state()
        restore_rng_state(outside)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Let the global generators go on from where this object's last use left them."""
        outside = capture_rng_state()
        restore_rng_state(self._state)
        try:
            yield
        finally:
            self._state = capture_rng_state()
            restore_rng_state(outside)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._state = dict(state)
