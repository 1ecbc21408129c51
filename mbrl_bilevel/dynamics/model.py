"""A learned model of an environment: next observation, reward and termination."""

import torch
from torch import Tensor, nn

from mbrl_bilevel.config import ModelConfig
from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble
from mbrl_bilevel.dynamics.normalizer import Normalizer
from mbrl_bilevel.dynamics.termination import TerminationClassifier
from mbrl_bilevel.objectives import Objective
from mbrl_bilevel.types import Gaussian


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
        self.objective = objective
        size = self.target_size(obs_size, learns_reward)
        self.input_normalizer = Normalizer(obs_size + codec.size)
        self.target_normalizer = Normalizer(size)
        self.network = GaussianEnsemble(
            obs_size + codec.size, size, config.ensemble_size, config.hidden_sizes, generator
        )
        self.termination = (
            TerminationClassifier(obs_size, codec.size, generator) if learns_termination else None
        )
        num_elites = config.num_elite_members or config.ensemble_size
        self.register_buffer("elite_indices", torch.arange(num_elites))

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

    def predict(self, inputs: Tensor, members: Tensor) -> Gaussian:
        """Return the predictive Gaussians of raw targets `[P, N, D]`, row p by `members[p]`.

        Args:
            inputs: Raw `(obs, action features)`, `[P, N, D_x]`.
            members: `[P]`.
        """
        x = self.input_normalizer.normalize(inputs)
        output = self.objective.predictive(self.network.member_forward(x, members), members)
        scale = self.target_normalizer.std
        return Gaussian(
            self.target_normalizer.denormalize(output.mean), output.log_var + 2 * scale.log()
        )

    def step(
        self, obs: Tensor, action: Tensor, members: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return next observations `[P, N, D_obs]` and learned rewards `[P, N]` (or None).

        Args:
            obs: `[P, N, D_obs]`.
            action: Action features `[P, N, A]`.
            members: The member that moves row p, `[P]`.
            noise: Standard normal, broadcastable to `[P, N, D_obs]`; None: the mean is returned.
                The reward is its mean in either case: a return needs no more.
        """
        prediction = self.predict(torch.cat([obs, action], dim=-1), members)
        delta = prediction.mean[..., : self.obs_size]
        if noise is not None:
            delta = delta + noise * (0.5 * prediction.log_var[..., : self.obs_size]).exp()
        reward = prediction.mean[..., self.obs_size] if self.learns_reward else None
        return obs + delta, reward
