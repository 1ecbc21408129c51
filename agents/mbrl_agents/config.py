"""Settings of the agents."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mbrl_agents.planning.config import (
    AnyPlannerConfig,
    ICEMConfig,
    PlannerConfig,
    TerminalValueConfig,
)
from mbrl_bilevel.config.base import PositiveInt, StrictConfig


class AgentConfig(StrictConfig):
    """What the outer loop of every agent asks for."""

    name: str = Field(description="which agent")
    learning_starts: Annotated[int, Field(ge=20)] = Field(
        default=200, description="environment steps with random actions before the first fit"
    )
    model_train_freq: PositiveInt = Field(
        default=200, description="environment steps between two fits of the model"
    )


class PETSConfig(AgentConfig):
    """Planning with an ensemble of probabilistic models (Chua et al. 2018)."""

    name: Literal["pets"] = Field(default="pets", description="which agent")
    num_particles: PositiveInt = Field(default=5, description="sampled trajectories of each plan")
    propagation: Literal["ts1", "tsinf", "mean"] = Field(
        default="ts1", description="how particles move through the ensemble"
    )
    exploration_noise: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="while learning: std of the noise on planned Box actions, scaled to -1..1; "
        "share of random Discrete actions",
    )
    terminal_value: TerminalValueConfig | None = Field(
        default=None,
        description="learned value of the state at a plan's end; null: nothing counts beyond it",
    )
    planner: PlannerConfig = Field(default=ICEMConfig(), description="search over action sequences")


class OracleConfig(StrictConfig):
    """Planning on the true simulator."""

    name: Literal["oracle"] = Field(default="oracle", description="which agent")
    planner: PlannerConfig = Field(default=ICEMConfig(), description="search over action sequences")

    @field_validator("planner")
    @classmethod
    def _without_gradients(cls, value: AnyPlannerConfig) -> AnyPlannerConfig:
        if value.refinement is not None:
            raise ValueError("planner.refinement has to be null: a simulator has no gradients")
        return value
