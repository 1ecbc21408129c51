"""Settings of MAAC."""

from typing import Any, Literal

from pydantic import Field

from mbrl_agents.config import AgentConfig
from mbrl_bilevel.config.base import NonNegativeInt, PositiveFloat, PositiveInt


class MAACConfig(AgentConfig):
    """Model-augmented actor-critic: gradients through the model (Clavera et al. 2020)."""

    name: Literal["maac"] = Field(default="maac", description="which agent")
    horizon: NonNegativeInt = Field(
        default=3, description="model steps H that the actor's gradient goes through; 0: SAC's"
    )
    updates_per_step: PositiveInt = Field(
        default=1, description="updates of critics, actor and entropy after each environment step"
    )
    imagined_critic_data: bool = Field(
        default=False,
        description="train the critics on the steps of the actor's trajectories too, not on "
        "recorded ones alone",
    )
    max_grad_norm: PositiveFloat | None = Field(
        default=None, description="longest gradient of the actor; null: any"
    )
    sac: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of Stable-Baselines3's SAC: gamma, net_arch, learning_rate, "
        "batch_size, tau, ent_coef, ...",
    )
