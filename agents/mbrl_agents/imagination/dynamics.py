"""Dynamics that many imagined environments move by at once."""

import copy
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypedDict, Unpack, get_args

import torch
from torch import Tensor

from mbrl_agents.base import ModelBasedAgent
from mbrl_agents.outcomes import Outcomes
from mbrl_bilevel.config import Precision
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.errors import ConfigError, MBRLError
from mbrl_bilevel.types import RewardFn, TerminationFn

Uncertainty = Literal["aleatoric", "disagreement"]


@dataclass(frozen=True)
class ImaginedStep:
    """One step of N environments, none of them reset yet.

    Attributes:
        next_obs: `[N, D_obs]`.
        reward: `[N]`.
        terminated: `[N]`, bool.
        uncertainty: How little the step is to be trusted, `[N]`, at least 0.
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    uncertainty: Tensor


class ImaginedDynamics(Protocol):
    """What imagined environments need: a step. Derive from it to inherit `refresh`."""

    def step(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> ImaginedStep:
        """Move N environments.

        Args:
            obs: `[N, D_obs]`; must be left as it is.
            action: Action features `[N, A]` (`ActionCodec.encode`).
            generator: Of everything random, on the device of `obs`.
        """
        ...

    def refresh(self) -> None:
        """Read anew whatever was copied from a model that has been trained since."""
        return


class DynamicsOptions(TypedDict, total=False):
    """Keyword arguments of `LearnedDynamics`, described there."""

    uncertainty_penalty: float
    uncertainty: Uncertainty
    deterministic: bool
    precision: Precision


class LearnedDynamics(ImaginedDynamics):
    """A learned model; at each step, an elite member drawn at random moves an environment.

    As in MBPO (Janner et al. 2019), but the draws are spread evenly: at each step the environments
    are shuffled into equal groups, one a member. Each environment meets each member with the same
    probability, and a step of N environments costs one forward pass of N rows in all.

    With a penalty, the reward is MOPO's (Yu et al. 2020, section 4.3):
    `reward - uncertainty_penalty * u(obs, action)`. With mean mu_i and standard deviation sigma_i
    of elite i, in raw units, u is one of the two of their implementation:

    - `aleatoric`: `max_i ||sigma_i||`, a learned reward's standard deviation included;
    - `disagreement`: `max_i ||mu_i - mean_j mu_j||`, of the next observations.

    Both need every elite's prediction: E passes of N rows, where there are E elites. Without a
    penalty `aleatoric` only looks at the member that moves the environment: `||sigma_i||`.

    The parameters are a copy; `refresh` takes a new one after a fit.

    Args:
        model: The learned model.
        reward_fn: Exact reward; None: the mean of the model's.
        termination_fn: Exact termination; None: the model's, or never if it has learned none.
        uncertainty_penalty: Weight of u, at least 0.
        uncertainty: See above.
        deterministic: Move by the members' means instead of sampling from their Gaussians.
        precision: Of the model's large products on the CPU; see `large_dtype` for `auto`. States
            and rewards are float32 in any case.

    Raises:
        ConfigError: If an argument is impossible, or the model has learned no reward but has to.
    """

    def __init__(
        self,
        model: DynamicsModel,
        reward_fn: RewardFn | None,
        termination_fn: TerminationFn | None,
        *,
        uncertainty_penalty: float = 0.0,
        uncertainty: Uncertainty = "aleatoric",
        deterministic: bool = False,
        precision: Precision = "float32",
    ) -> None:
        if not 0 <= uncertainty_penalty < float("inf"):
            raise ConfigError(
                f"invalid value for 'uncertainty_penalty': {uncertainty_penalty}; "
                "allowed: 0 or more, finite"
            )
        if uncertainty not in ("aleatoric", "disagreement"):
            raise ConfigError(
                f"invalid value for 'uncertainty': {uncertainty!r}; "
                "allowed: 'aleatoric', 'disagreement'"
            )
        if precision not in get_args(Precision):
            raise ConfigError(
                f"invalid value for 'precision': {precision!r}; "
                "allowed: 'auto', 'float32', 'bfloat16'"
            )
        if reward_fn is None and not model.learns_reward:
            raise ConfigError("reward_fn=None, but the model learns no reward; give a function")
        self.model = model
        self.outcomes = Outcomes(model.codec, reward_fn, termination_fn)
        self.uncertainty_penalty = uncertainty_penalty
        self.uncertainty = uncertainty
        self.deterministic = deterministic
        self.precision = precision
        self.refresh()

    @classmethod
    def from_agent(cls, agent: ModelBasedAgent, **options: Unpack[DynamicsOptions]) -> Self:
        """Return the dynamics that an agent has learned, with its reward and termination.

        Raises:
            ConfigError: If an option is impossible.
            MBRLError: If the agent has not fitted its model yet.
        """
        if agent.num_fits == 0:
            raise MBRLError(
                f"the model of this {type(agent).__name__} has never been fitted after "
                f"{agent.num_timesteps} steps; learn first: agent.learn(total_timesteps=...), "
                f"with more than learning_starts={agent.config.learning_starts}"
            )
        return cls(agent.model, agent.reward_fn, agent.termination_fn, **options)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the parameters of the model's elites, and its termination, as they are now."""
        self._num_members = len(self.model.elite_indices)
        self._members = self.model.members(self.model.elite_indices).with_precision(self.precision)
        self._termination = copy.deepcopy(self.model.termination)

    @torch.no_grad()
    def step(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> ImaginedStep:
        """Move N environments; see `ImaginedDynamics.step`."""
        slots = self._draw_slots(len(obs), generator)
        inputs = torch.cat([obs, action], dim=-1)
        if self.uncertainty == "disagreement" or self.uncertainty_penalty > 0:
            means, stds = self._members.moments(inputs.expand(self._num_members, -1, -1))
            uncertainty = self._uncertainty(means, stds).expand(len(obs))
            mean, std = self._pick(means, stds, slots)
        else:
            mean, std = self._predict_grouped(inputs, slots)
            uncertainty = _norm(std)
        size = self.model.obs_size
        next_obs = obs + mean[:, :size]
        if not self.deterministic:
            noise = torch.randn(obs.shape, generator=generator, device=obs.device)
            next_obs.addcmul_(noise, std[:, :size])
        learned_reward = mean[:, size] if self.model.learns_reward else None
        reward = self.outcomes.reward(obs, action, next_obs, learned_reward)
        if self.uncertainty_penalty > 0:
            reward = reward - self.uncertainty_penalty * uncertainty
        terminated = self.outcomes.terminated(obs, action, next_obs, self._termination)
        if terminated is None:
            terminated = torch.zeros(len(obs), dtype=torch.bool, device=obs.device)
        return ImaginedStep(next_obs, reward, terminated, uncertainty)

    def _draw_slots(self, num_envs: int, generator: torch.Generator) -> Tensor:
        """Return a place in the members' equal groups for each environment, `[N]`.

        Place s belongs to member `s // group_size`. Where N does not divide by E, fewer than E
        places stay empty.
        """
        group_size = -(-num_envs // self._num_members)
        num_slots = self._num_members * group_size
        return torch.randperm(num_slots, generator=generator, device=generator.device)[:num_envs]

    def _predict_grouped(self, inputs: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation `[N, D]` of inputs `[N, D_x]`, by slots' members."""
        num_envs = len(inputs)
        group_size = -(-num_envs // self._num_members)
        # Empty slots predict for the first row, in vain.
        rows = slots.new_zeros(self._num_members * group_size)
        rows[slots] = torch.arange(num_envs, device=slots.device)
        grouped = inputs.index_select(0, rows).view(self._num_members, group_size, -1)
        means, stds = self._members.moments(grouped)
        mean, std = (moment.flatten(end_dim=1) for moment in (means, stds.expand_as(means)))
        return mean.index_select(0, slots), std.index_select(0, slots)

    def _pick(self, means: Tensor, stds: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return each row of predictions `[E, N, D]` by its slot's member, `[N, D]` both."""
        num_envs = len(slots)
        members = slots // -(-num_envs // self._num_members)
        rows = torch.arange(num_envs, device=slots.device)
        return means[members, rows], stds.expand_as(means)[members, rows]

    def _uncertainty(self, means: Tensor, stds: Tensor) -> Tensor:
        """Return u of predictions `[E, N, D]`, `[N]`; `[1]` if it is the same for all."""
        if self.uncertainty == "aleatoric":
            return _norm(stds).amax(dim=0)
        next_means = means[..., : self.model.obs_size]
        distances: Tensor = torch.linalg.vector_norm(next_means - next_means.mean(dim=0), dim=-1)
        return distances.amax(dim=0)


def _norm(std: Tensor) -> Tensor:
    """Return `||sigma||` over the last dimension."""
    norm: Tensor = torch.linalg.vector_norm(std, dim=-1)
    return norm
