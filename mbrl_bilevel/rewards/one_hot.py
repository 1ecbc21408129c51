"""The Mahalanobis reward between classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.rewards.base import Reward
from mbrl_bilevel.rewards.mahalanobis import MahalanobisReward, QuadraticReward, Structure
from mbrl_bilevel.rewards.state_dependent import StateDependentReward


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
        self.metric: QuadraticReward = MahalanobisReward(num_classes, structure, initial)

    def table(self, x: Tensor | None = None) -> Tensor:
        """Return the reward `[C, C]` of predicting each class (rows) where each is true.

        If U depends on the inputs x `[*S, D_x]`, there is one a sample: `[*S, C, C]`.
        """
        u = self.metric.precision(x).matrix()
        diagonal = u.diagonal(dim1=-2, dim2=-1)
        rewards = 2 * u - diagonal[..., :, None] - diagonal[..., None, :]
        # Exactly zero on the diagonal, whatever the rounding.
        identity = torch.eye(self.num_classes, dtype=torch.bool, device=u.device)
        return rewards.masked_fill(identity, 0.0)

    def forward(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> Tensor:
        del x
        return self.table()[y_hat.long(), y.long()]


class StateDependentOneHotReward(OneHotReward):
    """`OneHotReward` with a diagonal `U(x)` by a network, the same as its start before learning.

    It can have any conditional shares q for its inner solution, which a constant U cannot: the
    solution is `log p_c = -u_c (1 - 2 q_c) / temperature + constant`, which is `log q_c` for
    `u_c = (k - temperature log q_c) / (1 - 2 q_c)` with any constant k above
    `temperature log q_c` of all classes with `q_c < 1/2` and below that of one with `q_c > 1/2`.

    Args:
        num_classes: C.
        input_size: D_x.
        hidden_sizes: Width of the network's hidden layers; none: its output is linear in x.
        initial: U at the start, as for `OneHotReward`.
        seed: Of the initial weights.

    Raises:
        ConfigError: A size or the matrix is impossible.
    """

    def __init__(
        self,
        num_classes: int,
        input_size: int,
        hidden_sizes: Sequence[int] = (),
        initial: float | Tensor = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(num_classes, "diagonal", initial)
        self.metric = StateDependentReward(
            num_classes, input_size, "diagonal", hidden_sizes, initial, seed
        )

    def forward(self, y_hat: Tensor, y: Tensor, x: Tensor | None = None) -> Tensor:
        """See `Reward.forward`.

        Raises:
            ValueError: x is missing.
        """
        u = self.metric.precision(x).diagonal()
        shape = torch.broadcast_shapes(y_hat.shape, y.shape, u.shape[:-1])  # type: ignore[no-untyped-call]
        u = u.expand(*shape, self.num_classes)
        predicted, true = (labels.long().expand(shape)[..., None] for labels in (y_hat, y))
        missed = u.gather(-1, predicted) + u.gather(-1, true)
        return -missed[..., 0] * (y_hat != y)
