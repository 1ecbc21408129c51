"""The picture of which dimensions matter."""

import numpy as np
import pytest

from mbrl_bilevel.evaluation import what_matters


def heights(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def test_a_panel_each_with_a_bar_for_each_dimension() -> None:
    shares, decays = np.array([0.5, 0.2, 0.3]), np.array([1.0, 10.0])
    upper, lower = what_matters(shares, decays, obs_size=2).axes
    assert heights(upper) == shares.tolist()
    assert "then reward" in upper.get_xlabel()
    assert heights(lower) == decays.tolist()
    assert lower.get_yscale() == "log"
    assert all(float(tick).is_integer() for tick in upper.get_xticks())


def test_what_is_not_learned_has_no_panel() -> None:
    (axes,) = what_matters(np.array([0.4, 0.6]), None, obs_size=2).axes
    assert heights(axes) == [0.4, 0.6]
    assert "reward" not in axes.get_xlabel()
    with pytest.raises(ValueError, match="neither"):
        what_matters(None, None, obs_size=2)
