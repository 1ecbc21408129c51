"""Settings of tabular models, and of what they are learned by."""

from typing import Annotated, Literal

from pydantic import Field

from mbrl_bilevel.config.base import (
    OpenFraction,
    PositiveFloat,
    StrictConfig,
    named,
)


class NoObjectiveConfig(StrictConfig):
    """Nothing: the agent fits no model."""

    name: Literal["none"] = Field(default="none", description="which objective")


class CountsConfig(StrictConfig):
    """Likelihood: the shares of the next states that were counted."""

    name: Literal["nll"] = Field(default="nll", description="which objective")


class DirichletConfig(StrictConfig):
    """Mean of the posterior under a symmetric Dirichlet prior."""

    name: Literal["dirichlet"] = Field(default="dirichlet", description="which objective")
    prior_count: PositiveFloat = Field(
        default=1.0, description="imagined visits of each state and action, over all next states"
    )


class OneHotPGConfig(StrictConfig):
    """Entropy-regularised policy gradient on a one-hot reward with a fixed U = beta I."""

    name: Literal["pg"] = Field(default="pg", description="which objective")
    beta: PositiveFloat | None = Field(
        default=1.0, description="null: temperature C / (2 (1 - sum of the squared class shares))"
    )
    temperature: PositiveFloat = Field(
        default=1.0, description="weight of the entropy (the paper's lambda)"
    )


class OneHotBilevelConfig(StrictConfig):
    """The same with U learned on held-out transitions."""

    name: Literal["bilevel"] = Field(default="bilevel", description="which objective")
    reward: Literal["scalar", "state_dependent"] = Field(
        default="state_dependent",
        description="U: beta I, or a diagonal U(x) with other entries for states never seen to "
        "follow",
    )


TabularObjectiveConfig = Annotated[
    CountsConfig | DirichletConfig | OneHotPGConfig | OneHotBilevelConfig,
    Field(discriminator="name"),
    named("bilevel"),
]


class TabularModelConfig(StrictConfig):
    """A table, learned from counts."""

    held_out_fraction: OpenFraction = Field(
        default=0.2, description="share of transitions kept for the outer problem"
    )


class NoModelConfig(StrictConfig):
    """No settings: the agent has no model, or one without any."""


class TabularSections(StrictConfig):
    """The sections `objective` and `model` of agents that learn a table."""

    objective: TabularObjectiveConfig = Field(
        default=OneHotBilevelConfig(), description="a name, or a mapping with name and settings"
    )
    model: TabularModelConfig = TabularModelConfig()


class DirichletSections(StrictConfig):
    """The sections of agents whose model is a posterior."""

    objective: Annotated[DirichletConfig, named("dirichlet")] = DirichletConfig()
    model: NoModelConfig = NoModelConfig()


class ModelFreeSections(StrictConfig):
    """The sections of agents without a model."""

    objective: Annotated[NoObjectiveConfig, named("none")] = NoObjectiveConfig()
    model: NoModelConfig = NoModelConfig()
