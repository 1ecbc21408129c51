"""From an objective's settings to the objective."""

from mbrl_bilevel.bilevel.full_reward import FullBilevel
from mbrl_bilevel.bilevel.objective import Bilevel
from mbrl_bilevel.bilevel.state_dependent import StateDependentBilevel
from mbrl_bilevel.config import (
    BetaNLLConfig,
    BilevelConfig,
    MSEConfig,
    NLLConfig,
    ObjectiveConfig,
    PGConfig,
)
from mbrl_bilevel.objectives import MSE, NLL, BetaNLL, Objective, PolicyGradient


def make_objective(config: ObjectiveConfig, ensemble_size: int, target_size: int) -> Objective:
    """Return the objective for E members that predict D dimensions."""
    match config:
        case MSEConfig():
            return MSE(ensemble_size, target_size)
        case NLLConfig():
            return NLL()
        case BetaNLLConfig():
            return BetaNLL(config.beta)
        case PGConfig():
            return PolicyGradient(ensemble_size, target_size, config.precision, config.temperature)
        case BilevelConfig(reward="state_dependent"):
            return StateDependentBilevel(target_size, config)
        case BilevelConfig(reward="full"):
            return FullBilevel(ensemble_size, target_size, config)
        case BilevelConfig(reward="auto"):
            settled = config.model_copy(update={"reward": "diagonal"})
            return Bilevel(ensemble_size, target_size, settled)
        case BilevelConfig():
            return Bilevel(ensemble_size, target_size, config)
