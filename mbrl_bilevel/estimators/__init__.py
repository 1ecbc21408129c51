"""Estimators of the expected reward, and of its gradient, by name."""

from types import MappingProxyType

from mbrl_bilevel.estimators.analytic import Analytic
from mbrl_bilevel.estimators.base import Estimator, SampledEstimator
from mbrl_bilevel.estimators.make_estimator import make_estimator
from mbrl_bilevel.estimators.sampled import Dice, Reparameterised
from mbrl_bilevel.estimators.score_function import BASELINES, Baseline, ScoreFunction

_CLASSES: tuple[type[Estimator], ...] = (Analytic, Reparameterised, Dice, ScoreFunction)
ESTIMATORS = MappingProxyType({cls.name: cls for cls in _CLASSES})
"""Estimator classes by name."""

__all__ = [
    "BASELINES",
    "ESTIMATORS",
    "Analytic",
    "Baseline",
    "Dice",
    "Estimator",
    "Reparameterised",
    "SampledEstimator",
    "ScoreFunction",
    "make_estimator",
]
