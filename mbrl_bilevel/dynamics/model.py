"""A learned model of an environment: next observation, reward and termination."""

import torch
from torch import Tensor, nn

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble
from mbrl_bilevel.dynamics.members import MemberModels
from mbrl_bilevel.dynamics.normalizer import Normalizer
from mbrl_bilevel.dynamics.termination import TerminationClassifier
from mbrl_bilevel.objectives import Objective

LOG_VAR_ROWS = 4096
"""Training rows that log-variances are measured on, at most."""
LOG_VAR_SHARE = 0.99
"""Share of them that is no larger than predictions may get, where they are held to the data."""


class DynamicsModel(nn.Module):
    """Gaussian ensemble over normalised state deltas, with learned reward and termination if asked.

    The input is `x = (obs, action features)`, the target `y = (next_obs - obs, reward)`, the
    reward only if `learns_reward`; both standardised.

    Args:
        obs_size: D_obs.
        codec: Encodes actions to `[..., A]` features.
        config: Architecture.
        objective: What the ensemble is trained by, made for `target_size(...)` dimensions.
        learns_reward: Whether the reward is part of the target.
        learns_termination: Whether a termination classifier is learned too.
        generator: Draws the initial weights (on the CPU).
    """

    elite_indices: Tensor
    largest_log_var: Tensor

    def __init__(
        self,
        obs_size: int,
        codec: ActionCodec,
        config: ModelConfig,
        objective: Objective,
        *,
        learns_reward: bool,
        learns_termination: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.obs_size = obs_size
        self.codec = codec
        self.learns_reward = learns_reward
        self.clip_to_data = config.clip_to_data
        self.objective = objective
        size = self.target_size(obs_size, learns_reward)
        self.input_normalizer = Normalizer(obs_size + codec.size)
        self.target_normalizer = Normalizer(size)
        self.network = GaussianEnsemble(
            obs_size + codec.size,
            size,
            config.ensemble_size,
            config.hidden_sizes,
            generator,
            with_leverage=objective.log_var_head_is_reward,
        )
        self.termination = (
            TerminationClassifier(obs_size, codec.size, generator) if learns_termination else None
        )
        num_elites = config.num_elite_members or config.ensemble_size
        self.register_buffer("elite_indices", torch.arange(num_elites))
        self.register_buffer(
            "largest_log_var", torch.full((config.ensemble_size, 1, size), torch.inf)
        )

    @staticmethod
    def target_size(obs_size: int, learns_reward: bool) -> int:
        """Return D, the number of predicted dimensions."""
        return obs_size + int(learns_reward)

    def tensors(self, transitions: Transitions) -> tuple[Tensor, Tensor]:
        """Return raw inputs `[N, D_x]` and targets `[N, D]` of recorded transitions."""
        device = self.elite_indices.device
        obs = torch.as_tensor(transitions.obs, device=device)
        delta = torch.as_tensor(transitions.next_obs, device=device) - obs
        inputs = torch.cat([obs, self.codec.encode(transitions.actions)], dim=-1)
        if not self.learns_reward:
            return inputs, delta
        reward = torch.as_tensor(transitions.rewards, device=device)[:, None]
        return inputs, torch.cat([delta, reward], dim=-1)

    @torch.no_grad()
    def measure_log_var(self, x: Tensor) -> None:
        """Remember how large log-variances are where the data is, for `members`.

        Args:
            x: Normalised training inputs `[N, D_x]`.
        """
        rows = x[:: -(-len(x) // LOG_VAR_ROWS)].expand(self.network.ensemble_size, -1, -1)
        log_var = self.network(rows).log_var
        self.largest_log_var.copy_(log_var.quantile(LOG_VAR_SHARE, dim=1, keepdim=True))

    def members(self, indices: Tensor) -> MemberModels:
        """Return the members at `indices` `[P]`, ready to predict, as they are now."""
        return MemberModels(
            self.network,
            self.input_normalizer,
            self.target_normalizer,
            self.objective.solution_log_var,
            indices,
            learns_reward=self.learns_reward,
            largest_log_var=self.largest_log_var if self.clip_to_data else None,
        )
