"""Members of a trained ensemble, prepared for many predictions in a row."""

from copy import copy

import torch
from torch import Tensor

from mbrl_bilevel.config import Precision
from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble, bound_log_var, bounded_std
from mbrl_bilevel.dynamics.fast_layers import MemberLayers
from mbrl_bilevel.dynamics.normalizer import Normalizer
from mbrl_bilevel.dynamics.onednn import large_dtype
from mbrl_bilevel.types import Gaussian

CONSTANT_LOG_VAR = -40.0
"""Stands for no variance at all, in raw units, and keeps everything finite."""

PER_PLACE = ("_largest", "_largest_std", "_log_var", "_constant_std", "_slope", "_average")
"""Attributes of `MemberModels` with a row for each place, where they are there at all."""


class MemberModels:
    """P members (repetitions allowed) that map raw inputs to raw targets.

    A copy of the parameters as they are now, with the scales of the normalisers folded into the
    first and the last layer; gradients reach the inputs alone. Predictions of many inputs are
    fastest if equal members are next to each other in `indices`.

    Args:
        network: The ensemble of E members.
        input_normalizer, target_normalizer: Of its inputs and targets.
        solution_log_var: The members' constant log-variances `[E, D]`, normalised; None: the
            network's own.
        indices: Which members, `[P]`.
        learns_reward: Whether the last target dimension is the reward.
        largest_log_var: Normalised log-variances `[E, 1, D]` that predictions stay below, and
            inputs within the range of the training data. Beyond it networks grow linearly, and
            predictions many steps ahead can run away. None: neither is held.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: GaussianEnsemble,
        input_normalizer: Normalizer,
        target_normalizer: Normalizer,
        solution_log_var: Tensor | None,
        indices: Tensor,
        *,
        learns_reward: bool,
        largest_log_var: Tensor | None = None,
    ) -> None:
        self._size = network.target_size
        self.state_size = self._size - int(learns_reward)
        self.learns_reward = learns_reward
        # Means are taken away and added outside of the layers: in bfloat16, they would cost
        # the digits that matter.
        self._center = input_normalizer.mean.clone()
        self._shift = target_normalizer.mean.clone()
        # A target that has never varied is predicted as it is: a planner would take the network's
        # small errors there for differences between plans.
        varies = target_normalizer.varies
        self._log_scale = (2 * target_normalizer.std.log()).where(varies, CONSTANT_LOG_VAR)
        self._variance_scale = self._log_scale.exp()
        self._log_var: Tensor | None = None
        self._constant_std: Tensor | None = None
        self._largest = self._largest_std = None
        if largest_log_var is not None:
            self._largest = largest_log_var[indices]
            self._largest_std = (0.5 * (self._largest + self._log_scale)).exp()
        self._range = (input_normalizer.low.clone(), input_normalizer.high.clone())
        weights = [weight.clone() for weight in network.weights]
        biases = [bias.clone() for bias in network.biases]
        weights[0] /= input_normalizer.std[:, None]
        if solution_log_var is not None:
            weights[-1], biases[-1] = weights[-1][..., : self._size], biases[-1][..., : self._size]
            self._log_var = solution_log_var[indices][:, None, :] + self._log_scale
            self._constant_std = (0.5 * self._log_var).exp()
        weights[-1][..., : self._size] *= target_normalizer.std * varies
        biases[-1][..., : self._size] *= target_normalizer.std * varies
        leverage, root = network.leverage, None
        if leverage is not None and leverage.is_active and solution_log_var is None:
            root = leverage.root.clone()
            self._slope, self._average = leverage.slope[indices], leverage.average[indices]
        layers = list(zip(weights, biases, strict=True))
        self._layers = MemberLayers(layers, indices, torch.float32, root)

    def with_precision(self, precision: Precision) -> "MemberModels":
        """Return the same members with large products on the CPU in another precision.

        Predictions are float32 in either, and so are those that need a gradient.
        """
        other = copy(self)
        other._layers = self._layers.with_dtype(large_dtype(precision))
        return other

    def choose(self, places: Tensor) -> "MemberModels":
        """Return the members at some places `[Q]` of these; what is large is not copied."""
        other = copy(self)
        other._layers = self._layers.choose(places)
        for name in PER_PLACE:
            if (rows := getattr(self, name, None)) is not None:
                setattr(other, name, rows[places])
        return other

    def predict(self, inputs: Tensor) -> Gaussian:
        """Return the predictive Gaussians of raw targets; `log_var` broadcasts to `[P, N, D]`.

        Args:
            inputs: Raw `(obs, action features)`, `[P, N, D_x]`, row p for member `indices[p]`.
        """
        mean, raw_log_var = self._outputs(inputs)
        if self._log_var is not None:
            return Gaussian(mean, self._log_var)
        log_var = bound_log_var(raw_log_var)
        if self._largest is not None:
            log_var = torch.minimum(log_var, self._largest)
        return Gaussian(mean, log_var + self._log_scale)

    def moments(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return means `[P, N, D]` and standard deviations of raw targets, for `predict`'s inputs.

        The same as `predict` has, without logarithms; standard deviations broadcast.
        """
        mean, raw_log_var = self._outputs(inputs)
        return mean, self._std(raw_log_var, self._size)

    def step(
        self, obs: Tensor, action: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return next observations `[P, N, D_obs]` and learned rewards `[P, N]` (or None).

        Args:
            obs: `[P, N, D_obs]`.
            action: Action features `[P, N, A]`.
            noise: Standard normal, broadcastable to `[P, N, D_obs]`; None: the mean is returned.
                The reward is its mean in either case: a return needs no more.
        """
        mean, raw_log_var = self._outputs(torch.cat([obs, action], dim=-1), is_own=True)
        next_obs = obs + mean[..., : self.state_size]
        if noise is not None:
            next_obs.addcmul_(noise, self._std(raw_log_var, self.state_size))
        reward = mean[..., self.state_size] if self.learns_reward else None
        return next_obs, reward

    def _outputs(self, inputs: Tensor, *, is_own: bool = False) -> tuple[Tensor, Tensor]:
        """Return raw means and, normalised and unbounded, log-variances (or nothing).

        Args:
            inputs: See `predict`.
            is_own: Whether they may be overwritten.
        """
        if self._largest is not None:
            inputs, is_own = inputs.clamp(*self._range), True
        output, leverage = self._layers(
            inputs.sub_(self._center) if is_own else inputs - self._center
        )
        output = output.to(inputs.dtype)  # all of it: parts of rows take five times as long
        mean = output[..., : self._size] + self._shift
        raw_log_var = output[..., self._size :]
        if leverage is not None:
            raw_log_var = raw_log_var + self._slope * (leverage - self._average)
        return mean, raw_log_var

    def _std(self, raw_log_var: Tensor, size: int) -> Tensor:
        """Return the standard deviations of the first `size` raw targets, as `moments` does."""
        first = slice(size)
        if self._constant_std is not None:
            return self._constant_std[..., first]
        std = bounded_std(raw_log_var[..., first], self._variance_scale[first])
        if self._largest_std is not None:
            std = torch.minimum(std, self._largest_std[..., first])
        return std
