"""What a `BilevelTrainer` chooses where it was not told."""

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.estimators import Analytic, Estimator, Reparameterised
from mbrl_bilevel.heads import CategoricalHead, DiagonalGaussianHead, Head
from mbrl_bilevel.rewards import Reward


def default_head(reward: Reward) -> Head:
    """Return the head that predicts what the reward judges.

    Raises:
        ConfigError: The reward does not say what that is.
    """
    num_classes = getattr(reward, "num_classes", None)
    if num_classes is not None:
        return CategoricalHead(num_classes)
    target_size = getattr(reward, "target_size", None)
    if target_size is None:
        raise ConfigError(
            f"reward {type(reward).__name__} has no target_size to choose a head by; "
            "hand in head=..."
        )
    return DiagonalGaussianHead(target_size)


def default_estimator(head: Head, reward: Reward) -> Estimator:
    """Return the exact expectation where it is known, else one from samples."""
    return Analytic() if has_closed_form(head, reward) else Reparameterised()


def has_closed_form(head: Head, reward: Reward) -> bool:
    """Whether the expected reward is known exactly."""
    try:
        Analytic().check(head, reward)
    except ConfigError:
        return False
    return True
