"""Settings of the agents that learn a policy in the model."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from mbrl_agents.config import AgentConfig
from mbrl_bilevel.config import DatasetConfig, Precision, StrictConfig
from mbrl_bilevel.config.base import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    named,
)


class RolloutLengthConfig(StrictConfig):
    """Steps of a rollout: a number, or growing linearly while the agent learns."""

    initial: PositiveInt = Field(default=1, description="steps of a rollout up to begin_step")
    final: PositiveInt = Field(default=1, description="steps of a rollout from end_step on")
    begin_step: NonNegativeInt = Field(
        default=0, description="environment steps after which rollouts begin to grow"
    )
    end_step: NonNegativeInt = Field(
        default=0, description="environment steps after which they have grown"
    )

    @field_validator("end_step")
    @classmethod
    def _not_before_begin(cls, value: int, info: Any) -> int:
        begin = info.data.get("begin_step")
        if begin is not None and value < begin:
            raise ValueError(f"at least begin_step={begin}")
        return value

    def at(self, step: int) -> int:
        """Return the length after `step` environment steps, rounded down."""
        if step >= self.end_step:
            return self.final
        if step <= self.begin_step:
            return self.initial
        share = (step - self.begin_step) / (self.end_step - self.begin_step)
        return int(self.initial + share * (self.final - self.initial))


def _constant(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError("at least 1 step")
        return {"initial": value, "final": value}
    return value


class AlgorithmConfig(StrictConfig):
    """An algorithm of Stable-Baselines3, and any of its arguments as plain values."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        default="ppo",
        description="a2c, ddpg, dqn, ppo, sac or td3; crossq, qrdqn, tqc or trpo of sb3-contrib; "
        "its own arguments beside the name: gamma, net_arch, learning_rate, ...",
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The algorithm's arguments."""
        return dict(self.model_extra or {})


class PolicyAgentConfig(AgentConfig):
    """What every agent that learns a policy in the model asks for."""

    uncertainty_penalty: NonNegativeFloat = Field(
        default=0.0, description="weight of the model's uncertainty, taken from imagined rewards"
    )
    uncertainty: Literal["aleatoric", "disagreement"] = Field(
        default="aleatoric",
        description="largest predicted standard deviation, or distance between members' means",
    )
    precision: Precision = Field(
        default="float32",
        description="of large products in imagined steps, on the CPU; auto: bfloat16 where the "
        "processor multiplies in it",
    )
    stay_in_range: bool = Field(
        default=False,
        description="cut an imagined episode by the step that leaves the range of what is recorded",
    )


class MBPOConfig(PolicyAgentConfig):
    """SAC on short rollouts that branch off recorded states (Janner et al. 2019)."""

    name: Literal["mbpo"] = Field(default="mbpo", description="which agent")
    rollout_length: Annotated[RolloutLengthConfig, BeforeValidator(_constant)] = Field(
        default=RolloutLengthConfig(), description="steps of a rollout: a number, or a schedule"
    )
    rollout_freq: PositiveInt = Field(
        default=50, description="environment steps between two times of rolling out"
    )
    num_rollouts: PositiveInt = Field(default=400, description="rollouts at a time")
    retained_rollouts: PositiveInt = Field(
        default=20, description="times of rolling out that are kept to learn from"
    )
    gradient_steps: PositiveInt = Field(
        default=10, description="updates of the policy after each environment step; offline: 1"
    )
    real_data_ratio: Fraction = Field(
        default=0.05, description="share of recorded transitions in the policy's batches"
    )
    reward_scale: PositiveFloat = Field(
        default=1.0,
        description="factor of rewards as the policy learns them: critics learn values of some "
        "hundreds slowly",
    )
    averaged_steps: NonNegativeInt = Field(
        default=0,
        description="environment steps that the policy's weights are averaged over "
        "(exponentially) for predict(deterministic=True); 0: the latest weights",
    )
    sac: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of Stable-Baselines3's SAC: gamma, net_arch, learning_rate, ...",
    )
    offline: bool = Field(
        default=False,
        description="learn from a dataset alone; total_timesteps counts updates of the policy",
    )
    dataset: DatasetConfig | None = Field(default=None, description="what to learn from if offline")


class DynaConfig(PolicyAgentConfig):
    """An algorithm of Stable-Baselines3 that learns in imagined environments (Sutton 1991)."""

    name: Literal["dyna"] = Field(default="dyna", description="which agent")
    algorithm: Annotated[AlgorithmConfig, named("ppo")] = Field(
        default=AlgorithmConfig(), description="a name, or a mapping with name and settings"
    )
    num_envs: PositiveInt = Field(default=64, description="imagined environments side by side")
    rollout_length: PositiveInt = Field(
        default=50, description="steps after which an imagined episode is cut"
    )
    imagined_steps: PositiveInt = Field(
        default=20_000, description="steps in all imagined environments after each fit"
    )
    real_data_ratio: Fraction = Field(
        default=0.0,
        description="share of recorded transitions in the batches of an off-policy algorithm",
    )
