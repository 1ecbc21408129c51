"""Members of a trained ensemble, prepared for many predictions in a row."""

import torch
from torch import Tensor

from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble, bound_log_var, multi_layer
from mbrl_bilevel.dynamics.normalizer import Normalizer
from mbrl_bilevel.types import Gaussian

CONSTANT_LOG_VAR = -40.0
"""Stands for no variance at all, in raw units, and keeps everything finite."""


class MemberModels:
    """P members (repetitions allowed) that map raw inputs to raw targets.

    A copy of the parameters as they are now: gathered once instead of at every prediction, with
    the normalisers folded into the first and the last layer.

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
        size = network.target_size
        self.state_size = size - int(learns_reward)
        self.learns_reward = learns_reward
        pairs = zip(network.weights, network.biases, strict=True)
        self._layers = [(weight[indices], bias[indices]) for weight, bias in pairs]
        weight, bias = self._layers[0]
        weight = weight / input_normalizer.std[:, None]
        self._layers[0] = (weight, bias - input_normalizer.mean @ weight[:, None])
        weight, bias = self._layers[-1]
        # A target that has never varied is predicted as it is: a planner would take the network's
        # small errors there for differences between plans.
        varies, shift = target_normalizer.varies, target_normalizer.mean
        scale = target_normalizer.std * varies
        mean_layer = (weight[..., :size] * scale, bias[..., :size] * scale + shift)
        self._log_scale = (2 * target_normalizer.std.log()).where(varies, CONSTANT_LOG_VAR)
        self._log_var: Tensor | None = None
        self._largest = None if largest_log_var is None else largest_log_var[indices]
        self._range = (input_normalizer.low, input_normalizer.high)
        if solution_log_var is not None:
            self._layers[-1] = mean_layer
            self._log_var = solution_log_var[indices][:, None, :] + self._log_scale
        else:
            self._layers[-1] = (
                torch.cat([mean_layer[0], weight[..., size:]], dim=-1),
                torch.cat([mean_layer[1], bias[..., size:]], dim=-1),
            )

    def predict(self, inputs: Tensor) -> Gaussian:
        """Return the predictive Gaussians of raw targets; `log_var` broadcasts to `[P, N, D]`.

        Args:
            inputs: Raw `(obs, action features)`, `[P, N, D_x]`, row p for member `indices[p]`.
        """
        if self._largest is not None:
            inputs = inputs.clamp(*self._range)
        output = multi_layer(inputs, self._layers)
        if self._log_var is not None:
            return Gaussian(output, self._log_var)
        mean, raw_log_var = output.chunk(2, dim=-1)
        log_var = bound_log_var(raw_log_var)
        if self._largest is not None:
            log_var = torch.minimum(log_var, self._largest)
        return Gaussian(mean, log_var + self._log_scale)

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
        prediction = self.predict(torch.cat([obs, action], dim=-1))
        delta = prediction.mean[..., : self.state_size]
        if noise is not None:
            delta = delta + noise * (0.5 * prediction.log_var[..., : self.state_size]).exp()
        reward = prediction.mean[..., self.state_size] if self.learns_reward else None
        return obs + delta, reward
