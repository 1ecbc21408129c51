"""From an objective's settings to the objective."""

from mbrl_bilevel.bilevel.objective import Bilevel
from mbrl_bilevel.config import BetaNLLConfig, BilevelConfig, MSEConfig, NLLConfig
from mbrl_bilevel.objectives import MSE, NLL, BetaNLL, Objective


def make_objective(
    config: MSEConfig | NLLConfig | BetaNLLConfig | BilevelConfig,
    ensemble_size: int,
    target_size: int,
) -> Objective:
    """Return the objective for E members that predict D dimensions."""
    match config:
        case MSEConfig():
            return MSE(ensemble_size, target_size)
        case NLLConfig():
            return NLL()
        case BetaNLLConfig():
            return BetaNLL(config.beta)
        case BilevelConfig():
            return Bilevel(ensemble_size, target_size, config)
