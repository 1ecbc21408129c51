"""Settings of the agents' tests."""

import pytest


@pytest.fixture(autouse=True)
def _short_fits_of_the_termination(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit termination classifiers briefly: what is tested here does not need good ones."""
    monkeypatch.setattr("mbrl_bilevel.dynamics.termination.NUM_UPDATES", 20)
