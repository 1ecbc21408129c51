"""Training on what a model predicts itself: what it will be asked for, many steps ahead."""

import numpy as np
import torch
from torch import Tensor

from mbrl_bilevel.data import Transitions
from mbrl_bilevel.dynamics.model import DynamicsModel

BEGINS = 0.7
"""Share of the updates that come before: predictions that are still bad lead to states that a
trained model never sees."""


class OwnPredictions:
    """Batches in which some rows are seen from where the model's own prediction leads.

    A dynamics model is a policy and its prediction an action; a policy is to be rewarded in the
    states that it reaches itself, not only in those of recorded episodes (Ross, Gordon and Bagnell
    2011, DAgger; Venkatraman, Hebert and Bagnell 2015 for models). For a step i that is followed
    by a step i + 1, every member draws `obs'` from its prediction at i, and is then asked for the
    change from `obs'`, under the action of step i + 1, to the recorded observation after it. No
    gradient passes through `obs'`.

    Args:
        model: Its normalisers are fitted.
        transitions: N training transitions, in the order of recording.
        inputs: The model's raw inputs of these, `[N, D_x]`.
        targets: Its raw targets, `[N, D]`.
        share: Of a batch.
        seed: Of the draws.
    """

    def __init__(
        self,
        model: DynamicsModel,
        transitions: Transitions,
        inputs: Tensor,
        targets: Tensor,
        share: float,
        seed: int,
    ) -> None:
        self._model = model
        self._inputs, self._targets = inputs, targets
        self._share = share
        device = inputs.device
        self._next_obs = torch.as_tensor(transitions.next_obs, device=device)
        self._is_followed = torch.as_tensor(is_followed(transitions), device=device)
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def replace(self, rows: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch with its first rows seen from the model's own predictions.

        Args:
            rows: Indices of the transitions, `[E, B]`.
            x: Their normalised inputs `[E, B, D_x]`.
            y: Their normalised targets `[E, B, D]`.
        """
        num = round(self._share * rows.shape[1])
        first, size = rows[:, :num], self._model.obs_size
        followed = self._is_followed[first]
        following = torch.where(followed, first + 1, first)
        obs = self._draw_next_obs(x[:, :num], first)
        obs = torch.where(followed[..., None], obs, self._inputs[first][..., :size])
        inputs = torch.cat([obs, self._inputs[following][..., size:]], dim=-1)
        change = self._next_obs[following] - obs
        targets = torch.cat([change, self._targets[following][..., size:]], dim=-1)
        own_x = self._model.input_normalizer.normalize(inputs)
        own_y = self._model.target_normalizer.normalize(targets)
        return torch.cat([own_x, x[:, num:]], dim=1), torch.cat([own_y, y[:, num:]], dim=1)

    def _draw_next_obs(self, x: Tensor, rows: Tensor) -> Tensor:
        """Draw what every member expects after its rows, raw, `[E, B, D_obs]`."""
        model = self._model
        prediction = model.objective.predictive(model.network(x))
        noise = torch.randn(prediction.mean.shape, generator=self._generator).to(x.device)
        drawn = prediction.mean + noise * (0.5 * prediction.log_var).exp()
        size = model.obs_size
        normalizer = model.target_normalizer
        # What has never varied is predicted as it is, here as in a rollout.
        change = normalizer.denormalize(drawn * normalizer.varies)[..., :size]
        return self._inputs[rows][..., :size] + change


def is_followed(transitions: Transitions) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether the next transition goes on where each one ended, `[N]`, bool."""
    goes_on = np.zeros(len(transitions), np.bool_)
    goes_on[:-1] = (transitions.next_obs[:-1] == transitions.obs[1:]).all(axis=1)
    return goes_on & ~transitions.terminated & ~transitions.truncated
