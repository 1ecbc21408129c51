"""A learned termination function, for environments whose exact one is not known."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mbrl_bilevel.dynamics.normalizer import Normalizer

NUM_UPDATES = 300
BATCH_SIZE = 128


class TerminationClassifier(nn.Module):
    """Predicts whether a transition ended the episode, from (obs, action, next_obs).

    Trained on batches of which half are terminations, however rare these are: it would rather end
    an imagined episode too early than plan through the end of a real one.

    Args:
        obs_size: D_obs.
        action_size: Action features D_act.
        generator: Draws the initial weights.
    """

    has_terminations: Tensor

    def __init__(self, obs_size: int, action_size: int, generator: torch.Generator) -> None:
        super().__init__()
        input_size = 2 * obs_size + action_size
        self.normalizer = Normalizer(input_size)
        self.network = nn.Sequential(
            _linear(input_size, 64), nn.SiLU(), _linear(64, 64), nn.SiLU(), _linear(64, 1)
        )
        for parameter in self.network.parameters():
            bound = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.0
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        self.register_buffer("has_terminations", torch.tensor(False))

    def forward(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
        """Return whether each transition terminates, bool `[...]`; never, before any was seen."""
        if not self.has_terminations:
            return torch.zeros(obs.shape[:-1], dtype=torch.bool, device=obs.device)
        return self._logits(torch.cat([obs, action, next_obs], dim=-1)) > 0

    def fit(
        self,
        obs: Tensor,
        action: Tensor,
        next_obs: Tensor,
        terminated: Tensor,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        """Train on transitions `[N, ...]`; does nothing as long as none (or all) terminated."""
        positives, negatives = terminated.nonzero()[:, 0], (~terminated).nonzero()[:, 0]
        if len(positives) == 0 or len(negatives) == 0:
            return
        self.has_terminations.fill_(True)
        inputs = torch.cat([obs, action, next_obs], dim=-1)
        self.normalizer.fit(inputs)
        half = BATCH_SIZE // 2
        labels = torch.cat([torch.ones(half), torch.zeros(half)]).to(inputs.device)
        for _ in range(NUM_UPDATES):
            rows = torch.cat(
                [
                    side[torch.randint(len(side), (half,), generator=generator)]
                    for side in (positives, negatives)
                ]
            )
            loss = functional.binary_cross_entropy_with_logits(self._logits(inputs[rows]), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def _logits(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalizer.normalize(inputs))
        return logits.squeeze(-1)


def _linear(input_size: int, output_size: int) -> nn.Linear:
    """A layer whose initial weights do not move the global generator."""
    return nn.Linear(input_size, output_size, device="meta").to_empty(device="cpu")
