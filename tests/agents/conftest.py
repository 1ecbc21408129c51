"""Settings and fixtures of the agents' tests."""

import pytest

from mbrl_agents import PETS
from tests.agents.small import small_pets


@pytest.fixture(autouse=True)
def _short_fits_of_the_termination(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit termination classifiers briefly: what is tested here does not need good ones."""
    monkeypatch.setattr("mbrl_bilevel.dynamics.termination.NUM_UPDATES", 20)


@pytest.fixture(scope="module")
def trained() -> PETS:
    """A Pendulum agent after its first fit; tests must not change it."""
    return small_pets().learn(25)
