"""The Mahalanobis reward between classes."""

from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards.base import Reward
from mbrl_bilevel.rewards.mahalanobis import MahalanobisReward, Structure


class OneHotReward(Reward):
    """`r = -(e_y_hat - e_y)^T U (e_y_hat - e_y)` between one-hot codes of C classes.

    Benechehab et al. (2025), section 4.3. With `U = beta I` it is `-2 beta [y_hat != y]`.

    Args:
        num_classes: C.
        structure: Of U `[C, C]`, as for `MahalanobisReward`.
        initial: U at the start.

    Raises:
        ConfigError: A size, the structure or the matrix is impossible.
    """

    def __init__(
        self,
        num_classes: int,
        structure: Structure = "scalar",
        initial: float | Tensor = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ConfigError(f"num_classes={num_classes!r}; it must be an integer of at least 2")
        self.num_classes = num_classes
        self.metric = MahalanobisReward(num_classes, structure, initial)

    def table(self) -> Tensor:
        """Return the reward `[C, C]` of predicting each class (rows) where each is true."""
        u = self.metric.precision().matrix()
        diagonal = u.diagonal()
        # Exactly zero on the diagonal, whatever the rounding.
        return (2 * u - diagonal[:, None] - diagonal[None, :]).fill_diagonal_(0.0)

    def forward(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> Tensor:
        del x
        return self.table()[y_hat.long(), y.long()]
