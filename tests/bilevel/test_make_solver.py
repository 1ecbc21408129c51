"""Solvers by name: what is accepted, and what the errors say."""

import math

import pytest

from mbrl_bilevel.bilevel import SOLVERS, make_solver
from mbrl_bilevel.errors import ConfigError


def test_every_name_makes_a_solver_of_that_name():
    names = {"dense", "cg", "neumann", "nystrom", "functional", "unrolled", "closed_form"}
    assert set(SOLVERS) == names
    assert {make_solver(name).name for name in names} == names


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dense", {"ridge": 0.1}),
        ("cg", {"ridge": 0, "max_steps": 100, "tol": 1e-8}),
        ("neumann", {"num_terms": 10, "scale": 0.1}),
        ("nystrom", {"rank": 5, "ridge": 0.1, "seed": 3}),
        ("functional", {"ridge": 0.1, "compute_stationarity": False}),
        ("unrolled", {"num_steps": 5, "lr": 0.1, "momentum": 0.0}),
    ],
)
def test_settings_arrive(name, settings):
    solver = make_solver(name, **settings)
    assert {key: getattr(solver, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("conjugate", None),
        ("nystroem", "nystrom"),
        ("unroll", "unrolled"),
        ("closed", "closed_form"),
    ],
)
def test_an_unknown_name(name, nearest):
    with pytest.raises(
        ConfigError, match=f"unknown solver '{name}'.*Allowed: cg, closed"
    ) as caught:
        make_solver(name)
    assert nearest is None or f"did you mean '{nearest}'?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        (
            "cg",
            "steps",
            "no setting 'steps'; did you mean 'max_steps'.*Allowed: max_steps, ridge, tol",
        ),
        ("neumann", "ridge", "no setting 'ridge'; .*Allowed: num_terms, scale"),
        ("closed_form", "ridge", "no setting 'ridge'; Allowed: none"),
        ("unrolled", "optimizer", "no setting 'optimizer'; .*Allowed: lr, momentum, num_steps"),
    ],
)
def test_an_unknown_setting(name, setting, message):
    with pytest.raises(ConfigError, match=message):
        make_solver(name, **{setting: 1})


@pytest.mark.parametrize(
    ("name", "setting", "value", "allowed"),
    [
        ("dense", "ridge", -0.1, "a number >= 0"),
        ("cg", "ridge", -1, "a number >= 0"),
        ("cg", "ridge", math.nan, "a number >= 0"),
        ("cg", "ridge", math.inf, "a number >= 0"),
        ("cg", "ridge", "0.1", "a number >= 0"),
        ("cg", "ridge", True, "a number >= 0"),
        ("cg", "max_steps", 0, "an integer >= 1"),
        ("cg", "max_steps", 2.5, "an integer >= 1"),
        ("cg", "tol", 0, "a number > 0"),
        ("neumann", "num_terms", 0, "an integer >= 1"),
        ("neumann", "scale", 0.0, "a number > 0"),
        ("nystrom", "rank", 0, "an integer >= 1"),
        ("nystrom", "ridge", -1e-9, "a number >= 0"),
        ("nystrom", "seed", -1, "an integer >= 0"),
        ("functional", "ridge", -1, "a number >= 0"),
        ("functional", "compute_stationarity", 1, "true or false"),
        ("unrolled", "num_steps", 0, "an integer >= 1"),
        ("unrolled", "lr", 0, "a number > 0"),
        ("unrolled", "momentum", 1, "a number >= 0 and < 1"),
        ("unrolled", "momentum", -0.1, "a number >= 0 and < 1"),
    ],
)
def test_an_impossible_value(name, setting, value, allowed):
    with pytest.raises(ConfigError, match=f"'{name}': {setting}={value!r}; it must be {allowed}"):
        make_solver(name, **{setting: value})
