"""From an estimator's settings to the estimator."""

from mbrl_bilevel.config import (
    AnalyticConfig,
    DiceConfig,
    ReparameterisedConfig,
    ScoreFunctionConfig,
)
from mbrl_bilevel.estimators.analytic import Analytic
from mbrl_bilevel.estimators.base import Estimator
from mbrl_bilevel.estimators.sampled import Dice, Reparameterised
from mbrl_bilevel.estimators.score_function import ScoreFunction


def make_estimator(
    config: AnalyticConfig | ReparameterisedConfig | DiceConfig | ScoreFunctionConfig,
    seed: int = 0,
) -> Estimator:
    """Return the estimator; `seed` is that of its noise, if it has any.

    Raises:
        ConfigError: The seed is negative.
    """
    match config:
        case AnalyticConfig():
            return Analytic()
        case ReparameterisedConfig():
            return Reparameterised(config.num_samples, seed)
        case DiceConfig():
            return Dice(config.num_samples, seed)
        case ScoreFunctionConfig():
            return ScoreFunction(config.num_samples, seed, config.baseline, config.clip)
