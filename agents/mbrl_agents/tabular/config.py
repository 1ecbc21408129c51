"""Settings of the tabular agents."""

from typing import Annotated, Literal

from pydantic import Field

from mbrl_bilevel.config.base import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictConfig,
)

Discount = Annotated[float, Field(ge=0, lt=1)]


class TabularAgentConfig(StrictConfig):
    """What every tabular agent asks for."""

    name: str = Field(description="which agent")
    discount: Discount = Field(default=0.99, description="of rewards, a step")


class ExplorationConfig(StrictConfig):
    """Random actions, fewer and fewer of them."""

    start: Fraction = Field(default=1.0, description="share of random actions in the first step")
    end: Fraction = Field(default=0.05, description="share of them in the end")
    steps: PositiveInt = Field(
        default=5000, description="environment steps over which the share falls, linearly"
    )


class ValueIterationConfig(TabularAgentConfig):
    """Value iteration on the learned model."""

    name: Literal["tabular_vi"] = Field(default="tabular_vi", description="which agent")
    exploration: ExplorationConfig = ExplorationConfig()
    model_train_freq: PositiveInt = Field(
        default=100, description="environment steps between two fits of the model"
    )


class DynaQConfig(TabularAgentConfig):
    """Q-learning from real steps and from imagined ones (Sutton 1990)."""

    name: Literal["dyna_q"] = Field(default="dyna_q", description="which agent")
    exploration: ExplorationConfig = ExplorationConfig()
    lr: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="learning rate of updates from single transitions"
    )
    planning_updates: NonNegativeInt = Field(
        default=20, description="imagined updates after each environment step"
    )
    updates: Literal["expected", "sample"] = Field(
        default="expected",
        description="imagined updates: the model's expectation, or one next state drawn from it",
    )
    model_train_freq: PositiveInt = Field(
        default=100, description="environment steps between two fits of the model"
    )


class PSRLConfig(TabularAgentConfig):
    """Acting by the optimal policy of a process drawn from the posterior (Strens 2000)."""

    name: Literal["psrl"] = Field(default="psrl", description="which agent")
    reward_prior_mean: float = Field(
        default=1.0, description="expected reward of an action that was never tried"
    )
    reward_prior_count: PositiveFloat = Field(
        default=0.1, description="imagined visits that this expectation counts as"
    )
    redraw_after: PositiveInt = Field(
        default=1000, description="steps of one episode after which a process is drawn anew"
    )


class RMaxConfig(TabularAgentConfig):
    """Optimism about whatever has been tried less than m times (Brafman and Tennenholtz 2002)."""

    name: Literal["rmax"] = Field(default="rmax", description="which agent")
    known_after: PositiveInt = Field(
        default=20, description="m: visits of a state and action after which the model is trusted"
    )
    max_reward: float = Field(
        default=1.0, description="R_max: what every step is worth where the model is not trusted"
    )


class QLearningConfig(TabularAgentConfig):
    """Q-learning (Watkins 1989): no model."""

    name: Literal["q_learning"] = Field(default="q_learning", description="which agent")
    exploration: ExplorationConfig = ExplorationConfig()
    lr: Annotated[float, Field(gt=0, le=1)] = Field(default=0.1, description="learning rate")
    lr_decay: NonNegativeFloat = Field(
        default=0.0,
        description="the n-th update of a state and action has the rate lr / n ** lr_decay",
    )
