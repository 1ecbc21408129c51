"""Settings of the planners."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mbrl_bilevel.config import Precision
from mbrl_bilevel.config.base import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictConfig,
    named,
)

PopulationSize = Annotated[int, Field(ge=2)]


class RefinementConfig(StrictConfig):
    """Gradient ascent on the predicted return, from the best plans of a search (Box actions)."""

    num_steps: PositiveInt = Field(default=5, description="steps of gradient ascent (Adam)")
    lr: PositiveFloat = Field(default=0.1, description="step size; Box actions are scaled to -1..1")
    num_plans: PositiveInt = Field(
        default=4, description="plans that are refined: the result and the next best ones"
    )


class PlannerBaseConfig(StrictConfig):
    """What all planners share."""

    horizon: PositiveInt = Field(default=20, description="steps H planned ahead")
    precision: Precision = Field(
        default="float32",
        description="of large products in the model, on the CPU; auto: bfloat16 where the "
        "processor multiplies in it",
    )
    refinement: RefinementConfig | None = Field(
        default=None, description="gradient ascent on the best plans, for Box actions; null: none"
    )


class RandomShootingConfig(PlannerBaseConfig):
    """Draws plans uniformly and takes the best."""

    name: Literal["random_shooting"] = "random_shooting"
    population_size: PopulationSize = Field(default=400, description="candidate plans")


class MPPIConfig(PlannerBaseConfig):
    """Model predictive path integral control (Williams et al. 2017)."""

    name: Literal["mppi"] = "mppi"
    population_size: PopulationSize = Field(
        default=128, description="candidate plans of an iteration"
    )
    num_iterations: PositiveInt = Field(default=4, description="averages, each around the last")
    temperature: PositiveFloat = Field(
        default=0.2,
        description="of the weights exp(return / temperature), in standard deviations of the "
        "candidates' returns: lower trusts the best plans alone",
    )
    noise_beta: NonNegativeFloat = Field(
        default=2.0, description="colour of the noise over time: 0 white, 1 pink, 2 red"
    )
    initial_std: PositiveFloat = Field(
        default=0.5, description="of Box actions, whose range is scaled to -1..1"
    )


class CEMConfig(PlannerBaseConfig):
    """Cross-entropy method."""

    name: Literal["cem"] = "cem"
    population_size: PopulationSize = Field(
        default=128, description="candidate plans of an iteration"
    )
    num_iterations: PositiveInt = Field(default=4, description="refinements of the distribution")
    num_elites: PositiveInt = Field(
        default=12, description="best plans that the distribution is refitted to"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="weight of the old distribution in a refit"
    )
    initial_std: PositiveFloat = Field(
        default=0.5, description="of Box actions, whose range is scaled to -1..1"
    )

    @model_validator(mode="after")
    def _elites_within_population(self) -> "CEMConfig":
        if self.num_elites > self.population_size:
            raise ValueError(
                f"num_elites={self.num_elites} exceeds population_size={self.population_size}"
            )
        return self


class ICEMConfig(CEMConfig):
    """Improved CEM (Pinneri et al. 2020): coloured noise, decaying populations, kept elites."""

    name: Literal["icem"] = "icem"  # type: ignore[assignment]
    noise_beta: NonNegativeFloat = Field(
        default=2.0, description="colour of the noise over time: 0 white, 1 pink, 2 red"
    )
    population_decay: Annotated[float, Field(ge=1)] = Field(
        default=1.25, description="each iteration's population is this factor smaller"
    )
    kept_elites: Fraction = Field(
        default=0.3, description="share of elites that enter the next iteration and the next step"
    )


class TerminalValueConfig(StrictConfig):
    """The value of the state at the end of a plan, learned after each fit of the model."""

    discount: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.99, description="weight of a reward one step later, in the plan too"
    )
    lr: PositiveFloat = Field(default=1e-3, description="learning rate of Adam")
    batch_size: PositiveInt = Field(default=256, description="states in an update")
    num_rounds: PositiveInt = Field(
        default=10, description="rounds of fitted value iteration after a fit of the model"
    )
    num_updates: PositiveInt = Field(default=50, description="updates in a round")
    num_states: PositiveInt = Field(
        default=512, description="recorded states that a round takes, at most"
    )
    num_walkers: NonNegativeInt = Field(
        default=0, description="states beside them that walk in the model, a step a round"
    )
    improvement: Fraction = Field(
        default=0.5,
        description="0 values the recorded (of walkers: random) actions, 1 the best of num_actions",
    )
    num_actions: PositiveInt = Field(
        default=16, description="random actions that the best one is looked for among"
    )


AnyPlannerConfig = ICEMConfig | CEMConfig | MPPIConfig | RandomShootingConfig
PlannerConfig = Annotated[AnyPlannerConfig, Field(discriminator="name"), named("icem")]
